// What judges the kernel tests: iproute2 and nft, run inside the namespace that is looked at.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { fromSources } from '../../../../test/typescript.js';
import type { NetNS } from '../index.js';

/** Runs a command inside; returns what it wrote. */
export function inside(ns: NetNS, command: string, input?: string): string {
  return execFileSync('nsenter', [`--net=/proc/${process.pid}/fd/${ns.fd.number}`, 'sh', '-c', command], {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    ...(input !== undefined && { input }),
    stdio: ['pipe', 'pipe', 'pipe'],
  });
}

/** What `ip -j` says. */
export function ip(ns: NetNS, args: string): Record<string, unknown>[] {
  return JSON.parse(inside(ns, `ip -j ${args}`) || '[]') as Record<string, unknown>[];
}

/** Runs a command here, not inside. */
export function outside(command: string): string {
  return execFileSync('sh', ['-c', command], { encoding: 'utf8' });
}

/** The repository. */
export const home: string = fileURLToPath(new URL('../../../..', import.meta.url));

export const root: boolean = process.getuid?.() === 0;

/** Starts a program in TypeScript in another process, which imports this package by its name. It writes lines. */
export class Other implements AsyncDisposable {
  readonly process: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  #said = '';

  constructor(script: string) {
    const node = [...fromSources, '--input-type=module', '-e', script];
    this.process = spawn(process.execPath, node, { cwd: home, stdio: ['pipe', 'pipe', 'pipe'] });
    this.process.stderr?.on('data', (chunk: Buffer) => {
      process.stderr.write(chunk);
      this.#said += chunk;
    });
    // It may have ended.
    this.process.stdin?.on('error', () => {});
    this.#lines = createInterface({ input: this.process.stdout as Readable })[Symbol.asyncIterator]();
  }

  /** The next line that it writes, read as JSON. */
  async read(): Promise<unknown> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error('the other process ended without a word');
    return JSON.parse(value);
  }

  /** Lets it go on. */
  go(): void {
    this.process.stdin?.write('\n');
  }

  /** Lets it go on to its end, or kills it. Throws where it lost a descriptor. */
  async end(signal?: 'SIGKILL'): Promise<void> {
    const running = this.process.exitCode === null && this.process.signalCode === null;
    const exited = running ? once(this.process, 'exit') : undefined;
    if (signal) this.process.kill(signal);
    else this.process.stdin?.end('\n');
    await exited;
    if (this.#said.includes('ISO_FD_LEAK')) throw new Error(this.#said);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.end('SIGKILL');
  }
}
