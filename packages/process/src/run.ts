import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { invalid } from '@iso/sys';
import type { Child, Exit } from './child.js';
import { type SpawnOptions, spawn } from './spawn.js';

/** Options of {@link run}. */
export interface RunOptions extends SpawnOptions {
  /** For its standard input: text, bytes, or a stream of them; what the child leaves unread is no error. */
  input?: string | Uint8Array | AsyncIterable<string | Uint8Array>;
  /** Bytes kept of each output, default 16 MiB; more kills the child (SIGKILL). */
  maxBuffer?: number;
  /** Rejects where it did not exit with 0, or not in time (the default); `false` resolves with it. */
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

/** A program ended with another exit code than 0, by a signal, or by its `timeout`: then with what it had written until then. */
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

/** A program wrote more than `maxBuffer`, and was ended; `stdout` and `stderr` are what it wrote until then. */
export class OutputLimitError extends ExitError {
  override name = 'OutputLimitError';
  /** @param result - what the program left */
  constructor(result: RunResult, most: number) {
    super(result);
    this.message = `${result.command[0]} wrote more than ${most} bytes`;
  }
}

/**
 * Runs a program to its end and keeps what it wrote.
 *
 * @param file - as for `spawn`
 * @param args - its arguments
 * @param options - those of `spawn`, `input`, `maxBuffer`, `check`
 * @returns outputs, exit and usage
 * @throws {@link ExitError} where it did not exit with 0, or not in time
 * @throws {@link OutputLimitError} where it wrote more than `maxBuffer`
 * @throws the signal's reason where `signal` ended it; what `input` throws; what `spawn` throws. It has ended in each case
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
  if (!(maxBuffer >= 0)) throw invalid(`maxBuffer must be a number of bytes, it is ${maxBuffer}`);
  const stdio = rest.stdio ?? [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'];
  const child = await spawn(file, args, { ...rest, stdio });
  const collected = Promise.all([child.stdout, child.stderr].map((stream) => collect(child, stream, maxBuffer)));
  // Looked at when it has ended.
  collected.catch(() => {});
  const feeding = input === undefined ? undefined : feed(child, input).catch((error: unknown) => ({ error }));
  const exit = await child.exited;
  const cut = await closing(child, collected, rest, exit);
  const [stdout, stderr] = (await collected) as [Output, Output];
  const failure = await feeding;
  const timedOut = exit.timedOut || cut === 'late';
  const result: RunResult = { ...exit, timedOut, command: [file, ...args], stdout: stdout.text, stderr: stderr.text };
  if (failure) throw failure.error;
  if (cut === 'aborted') throw rest.signal?.reason;
  if (stdout.exceeded || stderr.exceeded) throw new OutputLimitError(result, maxBuffer);
  if (check && (exit.code !== 0 || timedOut)) throw new ExitError(result);
  return result;
}

/**
 * Waits for the outputs of a program that has ended: its own children may hold them open, no longer than it had time itself.
 *
 * @returns why they were closed where they did not end
 */
async function closing(
  child: Child,
  collected: Promise<unknown>,
  { signal, timeout }: Pick<RunOptions, 'signal' | 'timeout'>,
  exit: Exit,
): Promise<'aborted' | 'late' | undefined> {
  let cut: 'aborted' | 'late' | undefined;
  const close = (why: typeof cut) => {
    cut ??= why;
    for (const stream of [child.stdout, child.stderr]) stream?.destroy();
  };
  const abort = () => close('aborted');
  signal?.addEventListener('abort', abort, { once: true });
  const timer = timeout ? setTimeout(() => close('late'), Math.max(0, timeout - exit.durationMs)) : undefined;
  if (signal?.aborted && child.killed) abort();
  else if (exit.timedOut) close('late');
  try {
    await collected;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
  return cut;
}

interface Output {
  text: string;
  exceeded: boolean;
}

function collect(child: Child, stream: Readable | null, most: number): Promise<Output> {
  if (!stream) return Promise.resolve({ text: '', exceeded: false });
  const chunks: Buffer[] = [];
  let left = most;
  return new Promise((resolve, reject) => {
    stream.on('data', (chunk: Buffer) => {
      if (left < 0) return;
      chunks.push(chunk.length > left ? chunk.subarray(0, left) : chunk);
      left -= chunk.length;
      if (left >= 0) return;
      child.end('SIGKILL');
      stream.destroy();
    });
    stream.once('error', reject);
    stream.once('close', () => resolve({ text: Buffer.concat(chunks).toString('utf8'), exceeded: left < 0 }));
  });
}

/** Errors of an input that its reader has closed. */
const unread = ['EPIPE', 'ECONNRESET', 'ERR_STREAM_PREMATURE_CLOSE', 'ERR_STREAM_DESTROYED'];

async function feed(child: Child, input: NonNullable<RunOptions['input']>): Promise<void> {
  const { stdin } = child;
  try {
    if (!stdin) throw invalid('input is for a standard input that is a pipe or a terminal');
    // pipeline lets go of its listener before the last error of a closed pipe.
    stdin.on('error', () => {});
    await pipeline(typeof input === 'string' || input instanceof Uint8Array ? [input] : input, stdin);
  } catch (error) {
    if (unread.includes((error as { code?: string }).code ?? '')) return;
    child.end('SIGKILL');
    throw error;
  }
}
