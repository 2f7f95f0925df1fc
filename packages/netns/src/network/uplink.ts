import { type Fd, KernelError, UnsupportedError } from '@iso/sys';
import type { NetNS } from '../namespace/netns.js';

/** What is needed of a child process: that of `node:child_process` has it. */
export interface UplinkProcess {
  readonly exitCode: number | null;
  readonly signalCode: NodeJS.Signals | null;
  readonly stderr: NodeJS.ReadableStream | null;
  kill(signal: NodeJS.Signals): boolean;
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: 'exit', listener: () => void): unknown;
}

/** Starts a program with standard error as a pipe, and one or two descriptors from number 3 on. */
export type UplinkSpawn = (
  file: string,
  args: readonly string[],
  options: { stdio: ['ignore', 'ignore', 'pipe', ...number[]] },
) => UplinkProcess;

/** How a namespace without privilege over the host gets out. */
export interface UplinkOptions {
  /** Of `node:child_process`, or what takes its place: this package starts no programs by itself. */
  spawn: UplinkSpawn;
  /** Which program; default pasta, else slirp4netns, whichever is found. */
  program?: 'pasta' | 'slirp4netns';
  /**
   * User namespace that owns the network namespace, by descriptor or by path: /proc/PID/ns/user. Default: the caller may enter the
   * namespace as it is.
   */
  userns?: Fd | string;
  /** Path by which the program finds the network namespace, where it closes what it inherits: /proc/PID/ns/net of a process inside. */
  path?: string;
  /** Name of the link inside, default `tap0`. */
  link?: string;
  mtu?: number;
  /** Gives up waiting. */
  signal?: AbortSignal;
}

const PATIENCE = 10_000;
const POLL = 20;
const STOPPING = 2000;
const KEPT = 4096;
const NOTHING = ['-t', 'none', '-u', 'none', '-T', 'none', '-U', 'none'];

/**
 * A way out for a namespace that one owns without being root: a program of the caller's, pasta(1) or slirp4netns(1), passes its packets on as
 * connections of its own. Nothing comes in by it, nor does the host's loopback answer: to let somebody in, publish by proxy. It needs
 * /dev/net/tun.
 *
 * @example
 * ```ts root
 * import { spawn } from 'node:child_process';
 * import { NetNS } from '@iso/netns';
 * import { Uplink } from '@iso/netns/network';
 * using box = NetNS.create();
 * try {
 *   await using uplink = await Uplink.start(box, { spawn, program: 'slirp4netns' });
 *   if (box.rtnl.links.get(uplink.link).name !== 'tap0') throw new Error('no link');
 * } catch (error) {
 *   // Where the program is not installed, or there is no way out that it could use.
 *   if (!/slirp4netns/.test(String(error))) throw error;
 * }
 * ```
 */
export class Uplink implements AsyncDisposable {
  /** Which program passes the packets on. */
  readonly program: 'pasta' | 'slirp4netns';
  /** Name of the link inside. */
  readonly link: string;
  /** Resolves when the program has ended, however that came. */
  readonly exited: Promise<void>;
  readonly #child: UplinkProcess;

  private constructor(program: 'pasta' | 'slirp4netns', link: string, child: UplinkProcess, exited: Promise<void>) {
    this.program = program;
    this.link = link;
    this.#child = child;
    this.exited = exited;
  }

  /**
   * Starts it.
   *
   * @param netns - that is to get out
   * @param options - how programs are started, which one
   * @returns it, when the link is up and has an address and a way out
   * @throws UnsupportedError where the program is not installed; KernelError `EIO` where it ended, with its own words
   */
  static async start(netns: NetNS, options: UplinkOptions): Promise<Uplink> {
    if (options.program) return Uplink.#try(options.program, netns, options);
    try {
      return await Uplink.#try('pasta', netns, options);
    } catch (error) {
      if (!(error instanceof UnsupportedError)) throw error;
    }
    try {
      return await Uplink.#try('slirp4netns', netns, options);
    } catch (error) {
      if (!(error instanceof UnsupportedError)) throw error;
      const hint = 'neither pasta (of the package passt) nor slirp4netns was found';
      throw new UnsupportedError('a way out without privilege', hint, { cause: error });
    }
  }

  static async #try(program: 'pasta' | 'slirp4netns', netns: NetNS, options: UplinkOptions): Promise<Uplink> {
    const { link = 'tap0', signal } = options;
    signal?.throwIfAborted();
    const child = options.spawn(program, argumentsOf(program, link, options), {
      stdio: [
        'ignore',
        'ignore',
        'pipe',
        netns.fd.number,
        ...(typeof options.userns === 'object' ? [options.userns.number] : []),
      ],
    });
    let said = '';
    child.stderr?.on('data', (chunk) => {
      said = `${said}${chunk}`.slice(-KEPT);
    });
    let failure: Error | undefined;
    const exited = new Promise<void>((resolve) => {
      child.on('error', (error) => {
        failure = error;
        resolve();
      });
      child.on('exit', () => resolve());
    });
    let ended = false;
    void exited.then(() => {
      ended = true;
    });
    const uplink = new Uplink(program, link, child, exited);
    try {
      const until = performance.now() + PATIENCE;
      while (!ready(netns, link)) {
        if (ended) throw failed(program, failure, said);
        if (performance.now() > until) throw failed(program, undefined, `no way out after ${PATIENCE} ms; ${said}`);
        signal?.throwIfAborted();
        await new Promise((resolve) => setTimeout(resolve, POLL));
      }
      return uplink;
    } catch (error) {
      await uplink.close();
      throw error;
    }
  }

  /** Ends it: the link goes. Again does nothing. */
  async close(): Promise<void> {
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOPPING);
    await this.exited;
    clearTimeout(timer);
  }

  /** The same as {@link Uplink.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function argumentsOf(program: 'pasta' | 'slirp4netns', link: string, options: UplinkOptions): string[] {
  // By its own descriptor: once it is in the user namespace, it may not look into this process any more.
  const { mtu, path = '/proc/self/fd/3' } = options;
  const userns = typeof options.userns === 'object' ? '/proc/self/fd/4' : options.userns;
  if (program === 'pasta')
    return [
      '--foreground',
      '--quiet',
      '--config-net',
      '--no-map-gw',
      '--ns-ifname',
      link,
      ...NOTHING,
      ...(mtu === undefined ? [] : ['--mtu', `${mtu}`]),
      ...(userns === undefined ? ['--netns-only'] : ['--userns', userns]),
      '--netns',
      path,
    ];
  return [
    '--configure',
    '--disable-host-loopback',
    ...(mtu === undefined ? [] : [`--mtu=${mtu}`]),
    ...(userns === undefined ? [] : [`--userns-path=${userns}`]),
    '--netns-type=path',
    path,
    link,
  ];
}

/** Up, with an address and a way out by it. */
function ready({ rtnl }: NetNS, name: string): boolean {
  const link = rtnl.links.list().find((each) => each.name === name);
  if (!link?.up) return false;
  return rtnl.routes.list({ table: 'main' }).some(({ dst, link: by }) => dst === 'default' && by === link.index);
}

function failed(program: string, error: Error | undefined, said: string): Error {
  if ((error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT')
    return new UnsupportedError(program, `there is no such program in PATH`, { cause: error });
  const words = said.trim().replace(/\s*\n\s*/g, '; ') || error?.message || 'it ended without a word';
  const hint = `${program} says: ${words}`;
  return new KernelError(EIO, { syscall: 'spawn', call: program, hint, ...(error && { cause: error }) });
}

const EIO = 5;
