import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Child } from '@iso/process';
import type { Container } from '../container.js';
import { exitCode } from '../exitcode.js';
import { complain } from '../say.js';
import { now } from '../state/document.js';
import type { HeldRecord } from '../state/held.js';
import { lighten } from '../supervise/light.js';
import type { HealthPlan } from './config.js';
import { type Health, judge, type Probe, STARTING, untilNext } from './health.js';

const LONGEST_MS = 2 ** 31 - 1;
/** Bytes of what a probe says. */
const MOST_OUTPUT = 4096;
/** A probe that dies with its container is seen to end before that is. */
const LAST_MOMENT_MS = 200;

/** Asks a running container again and again whether it is well, and writes the answers to its record. Disposed when it has ended. */
export class Monitor implements Disposable {
  readonly #record: HeldRecord;
  readonly #container: Container;
  readonly #plan: HealthPlan;
  readonly #startedAt = performance.now();
  #health: Health = STARTING;
  #timer: NodeJS.Timeout | undefined;
  #asking: AbortController | undefined;
  #over = false;

  /**
   * @param record - held by this process
   * @param container - that just began to run
   * @param plan - what is asked, and when
   */
  constructor(record: HeldRecord, container: Container, plan: HealthPlan) {
    this.#record = record;
    this.#container = container;
    this.#plan = plan;
    this.#wait();
  }

  /** No more questions; one that is being asked is given up. */
  [Symbol.dispose](): void {
    this.#over = true;
    clearTimeout(this.#timer);
    this.#asking?.abort();
  }

  #wait(): void {
    const delay = untilNext(this.#health, this.#plan, performance.now() - this.#startedAt);
    this.#timer = setTimeout(() => void this.#ask(), Math.min(delay, LONGEST_MS));
  }

  async #ask(): Promise<void> {
    try {
      // What stands still is neither well nor not.
      if (!this.#isPaused()) await this.#askOnce();
    } catch (error) {
      // A full disk: the container goes on.
      complain(`its health: ${(error as Error).message}`);
    }
    if (!this.#over) this.#wait();
  }

  async #askOnce(): Promise<void> {
    const ranMs = performance.now() - this.#startedAt;
    this.#asking = new AbortController();
    const probe = await runProbe(this.#container, this.#plan, this.#asking);
    if (probe.ExitCode !== 0) await sleep(LAST_MOMENT_MS);
    if (this.#over || this.#isPaused()) return;
    const before = this.#health.Status;
    this.#health = judge(this.#health, probe, this.#plan, ranMs);
    const { Status } = this.#health;
    this.#record.update(
      { health: this.#health },
      Status === before || Status === 'starting' ? undefined : `health_status: ${Status}`,
    );
    setImmediate(lighten);
  }

  #isPaused(): boolean {
    return this.#record.state.status === 'paused';
  }
}

/** Runs the command of a check until it ends, or is aborted, which its timeout does. What it leaves in the background stays. */
async function runProbe(
  container: Container,
  { command, timeout }: HealthPlan,
  abort: AbortController,
): Promise<Probe> {
  const Start = now();
  const output = new Output();
  const { signal } = abort;
  const timer = setTimeout(() => abort.abort(), Math.min(timeout, LONGEST_MS));
  try {
    const child = await container.exec(command, { stdio: ['ignore', 'pipe', 'pipe'], signal });
    const aborted = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
    const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
    // It leads a group: what it waits for goes with it.
    signal.addEventListener('abort', () => killGroup(child), { once: true });
    if (signal.aborted) killGroup(child);
    output.take(child.stdout);
    output.take(child.stderr);
    const exit = await child.exited;
    // Of a background process that has its output too.
    if (!signal.aborted) await Promise.race([closed, aborted]);
    child.stdout?.destroy();
    child.stderr?.destroy();
    // Killed or not.
    const ExitCode = exit.signal === 'SIGKILL' && signal.aborted ? -1 : exitCode(exit);
    const text = ExitCode === -1 ? exceeded(timeout, output.text) : output.text;
    return { Start, End: now(), ExitCode, Output: text };
  } catch (error) {
    const text = signal.aborted ? exceeded(timeout, '') : (error as Error).message;
    return { Start, End: now(), ExitCode: -1, Output: text };
  } finally {
    clearTimeout(timer);
  }
}

/** Docker's words. */
function exceeded(timeout: number, output: string): string {
  return `Health check exceeded timeout (${timeout / 1000}s)${output && `: ${output}`}`;
}

/** As long as it was not reaped, its number is its own. */
function killGroup({ pid, exitCode, signalCode }: Child): void {
  if (exitCode !== null || signalCode !== null) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Nobody in it can be killed: those of other users, for a plain one.
  }
}

/** The beginning of what a probe says. */
class Output {
  readonly #chunks: Buffer[] = [];
  #length = 0;

  take(stream: Readable | null): void {
    stream?.on('data', (chunk: Buffer) => {
      if (this.#length < MOST_OUTPUT) this.#chunks.push(chunk.subarray(0, MOST_OUTPUT - this.#length));
      this.#length += chunk.length;
    });
  }

  get text(): string {
    return `${Buffer.concat(this.#chunks).toString()}${this.#length > MOST_OUTPUT ? '...' : ''}`;
  }
}
