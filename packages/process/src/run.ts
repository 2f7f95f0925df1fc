import type { Readable } from 'node:stream';
import type { Exit } from './child.js';
import { type SpawnOptions, spawn } from './spawn.js';

/** Options of {@link run}. */
export interface RunOptions extends SpawnOptions {
  /** Text or bytes for its standard input. */
  input?: string | Uint8Array;
  /** Bytes kept of each output, default 16 MiB; more kills the child. */
  maxBuffer?: number;
  /** Rejects where the exit is not 0 (the default); `false` resolves with it. */
  check?: boolean;
}

/** What {@link run} resolves with; {@link ExitError} has the same fields. */
export interface RunResult extends Exit {
  /** The file and arguments. */
  command: readonly string[];
  /** Its standard output as UTF-8; empty where that was no pipe. */
  stdout: string;
  /** Its error output as UTF-8; empty where that was no pipe. */
  stderr: string;
}

/** A program ended with another exit code than 0, or by a signal. */
export class ExitError extends Error implements RunResult {
  override name = 'ExitError';
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly usage: RunResult['usage'];
  readonly timedOut: boolean;
  readonly durationMs: number;
  readonly command: readonly string[];
  readonly stdout: string;
  readonly stderr: string;

  /** @param result - what the program left */
  constructor(result: RunResult) {
    const how = result.timedOut
      ? 'timed out'
      : result.signal
        ? `was ended by ${result.signal}`
        : `exited with ${result.code}`;
    super(`${result.command.join(' ').slice(0, 200)} ${how}${result.stderr ? `\n${result.stderr.slice(-2000)}` : ''}`);
    this.code = result.code;
    this.signal = result.signal;
    this.usage = result.usage;
    this.timedOut = result.timedOut;
    this.durationMs = result.durationMs;
    this.command = result.command;
    this.stdout = result.stdout;
    this.stderr = result.stderr;
  }
}

/**
 * Runs a program to its end and keeps what it wrote.
 *
 * @param file - as for `spawn`
 * @param args - its arguments
 * @param options - those of `spawn`, `input`, `maxBuffer`, `check`
 * @returns outputs, exit and usage
 * @throws {@link ExitError} where it did not exit with 0; what `spawn` throws
 *
 * @example
 * ```ts
 * import { run } from '@iso/process';
 * const { stdout, usage } = await run('cat', [], { input: 'hello' });
 * if (stdout !== 'hello' || usage.maxRssBytes === 0) throw new Error('no cat');
 * ```
 */
export async function run(file: string, args: readonly string[] = [], options: RunOptions = {}): Promise<RunResult> {
  const { input, maxBuffer = 16 * 1024 * 1024, check = true, ...rest } = options;
  const stdio = rest.stdio ?? [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'];
  const child = await spawn(file, args, { ...rest, stdio });
  if (child.stdin && input !== undefined) {
    // The child may close its input unread.
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  }
  const overflow = () => child.kill('SIGKILL');
  const [exit, stdout, stderr] = await Promise.all([
    child.exited,
    collect(child.stdout, maxBuffer, overflow),
    child.stderr === child.stdout ? '' : collect(child.stderr, maxBuffer, overflow),
  ]);
  const result: RunResult = { ...exit, command: [file, ...args], stdout, stderr };
  if (check && exit.code !== 0) throw new ExitError(result);
  return result;
}

async function collect(stream: Readable | null, most: number, overflow: () => void): Promise<string> {
  if (!stream) return '';
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > most) {
      overflow();
      throw Object.assign(new RangeError(`the child wrote more than ${most} bytes`), {
        code: 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER',
      });
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
