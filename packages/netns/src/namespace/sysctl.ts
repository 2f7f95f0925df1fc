import { readFileSync, writeSync } from 'node:fs';
import { AT, type Fd, invalid, KernelError, type LaunchProgram, O } from '@iso/sys';
import { opening } from './opening.js';

/** Runs errands inside of a namespace. */
interface Place {
  errand(build: (program: LaunchProgram) => void): void;
  errandAsync(build: (program: LaunchProgram) => void): Promise<void>;
}

/**
 * Kernel settings of a network namespace: the files of /proc/sys/net as they are inside. They are opened there by a child and
 * read and written here, so the settings of this process's own namespace are never touched.
 *
 * @example
 * ```ts root
 * import { NetNS } from '@iso/netns';
 * using lab = NetNS.create();
 * lab.sysctl.set('net.ipv4.ip_forward', 1);
 * if (lab.sysctl.get('net.ipv4.ip_forward') !== '1') throw new Error('not set');
 * ```
 */
export class Sysctl {
  readonly #place: Place;

  /** @internal */
  constructor(place: Place) {
    this.#place = place;
  }

  /**
   * Reads a setting.
   *
   * @param name - as `sysctl` names it, `net.ipv4.ip_forward`; with slashes, where a part holds a dot: `net/ipv4/conf/eth0.5/forwarding`
   * @returns its text, without the line end
   * @throws KernelError `ENOENT` for what does not exist in this namespace
   */
  get(name: string): string {
    using file = this.#open(name, O.RDONLY);
    return readFileSync(file.number, 'utf8').trimEnd();
  }

  /**
   * Writes a setting. Needs CAP_NET_ADMIN in the user namespace that owns the network namespace.
   *
   * @param name - as in {@link Sysctl.get}
   * @param value - text or number
   * @throws KernelError `ENOENT`, `EACCES`, `EINVAL` for a value that the kernel does not take
   */
  set(name: string, value: string | number): void {
    using file = this.#open(name, O.WRONLY);
    try {
      writeSync(file.number, `${value}`);
    } catch (error) {
      throw refused(error, name, value);
    }
  }

  /**
   * The same as {@link Sysctl.set} while the event loop goes on: some settings wait for a lock of the kernel.
   *
   * @param name - as there
   * @param value - as there
   * @throws KernelError as there
   */
  async setAsync(name: string, value: string | number): Promise<void> {
    const [path, bytes] = [pathOf(name), Buffer.from(`${value}`)];
    let fd: Fd | undefined;
    try {
      await this.#place.errandAsync((program) => {
        const file = opening(program, 'openat', [AT.FDCWD, path, O.WRONLY | O.CLOEXEC], (made) => (fd = made));
        program.step('host', 'write', [file, bytes, bytes.length]);
      });
    } catch (error) {
      throw KernelError.is(error) && error.syscall === 'write' ? refused(error, name, value) : error;
    }
    fd?.close();
  }

  #open(name: string, flags: number): Fd {
    let fd: Fd | undefined;
    const args = [AT.FDCWD, pathOf(name), flags | O.CLOEXEC] as const;
    this.#place.errand((program) => opening(program, 'openat', args, (made) => (fd = made)));
    return fd as unknown as Fd;
  }
}

function refused(error: unknown, name: string, value: string | number): unknown {
  const { errno } = error as NodeJS.ErrnoException;
  if (errno === undefined) return error;
  return new KernelError(errno, { syscall: 'write', call: `sysctl ${name} = ${value}`, path: pathOf(name) });
}

function pathOf(name: string): string {
  const parts = name.split(name.includes('/') ? '/' : '.');
  if (parts[0] !== 'net' || parts.length < 2 || parts.some((part) => part === '' || part === '.' || part === '..'))
    throw invalid(`not a setting of a network namespace: ${JSON.stringify(name)}: those start with "net."`);
  return `/proc/sys/${parts.join('/')}`;
}
