import { randomBytes } from 'node:crypto';
import { ftruncateSync, mkdirSync, readFileSync, writeSync } from 'node:fs';
import { type Fd, KernelError, lockFile } from '@iso/sys';
import { emit, type Told } from '../events/emit.js';
import { UsageError } from '../options.js';
import {
  type ContainerState,
  containerDirectory,
  discard,
  lockAll,
  now,
  readOne,
  runnerLock,
  type StateChange,
  writeState,
} from './document.js';
import { openLock, waitForLock } from './lock.js';
import { lookUp, requireFree, updateContainer } from './record.js';

/** What a container is made from. */
export type About = Pick<ContainerState, 'root' | 'command' | 'flags' | 'labels' | 'autoRemove'> & { name?: string };

/**
 * The record of a container that this process makes or runs. It holds a lock, which dies with whoever has it: no pid has to be
 * trusted to tell whether a container is still there. Disposing gives the lock back; what was not made whole is gone then.
 */
export class HeldRecord implements Disposable {
  readonly id: string;
  readonly home: string;
  readonly #held: Fd;

  private constructor(home: string, id: string, held: Fd) {
    this.id = id;
    this.home = home;
    this.#held = held;
  }

  /**
   * Takes a name.
   *
   * @param home - where state is kept
   * @param about - name (default: the id's first 12 digits), and what it is made from
   * @returns the record; it is one of a container when {@link HeldRecord.complete} was called
   * @throws {@link UsageError} where another container has the name
   */
  static create(home: string, about: About): HeldRecord {
    const id = randomBytes(32).toString('hex');
    const name = about.name ?? id.slice(0, 12);
    using _one = lockAll(home);
    requireFree(home, name);
    mkdirSync(containerDirectory(home, id), { mode: 0o700 });
    const held = lockFile(runnerLock(home, id));
    writeState(home, {
      version: 2,
      id,
      name,
      createdAt: now(),
      root: about.root,
      command: about.command,
      flags: about.flags,
      labels: about.labels,
      status: 'creating',
      restartCount: 0,
      autoRemove: about.autoRemove,
    });
    return new HeldRecord(home, id, held);
  }

  /**
   * Takes a container that does not run, to start it: of two who want to, one gets it.
   *
   * @param home - where state is kept
   * @param word - its name or id
   * @returns the record
   * @throws {@link UsageError} where it runs, or somebody starts it, or where there is none
   */
  static take(home: string, word: string): HeldRecord {
    const { id } = lookUp(home, word);
    using _one = lockAll(home);
    const state = readOne(home, id);
    if (!state) throw new UsageError(`no such container: ${word}`);
    if (state.status !== 'created' && state.status !== 'exited')
      throw new UsageError(`container ${word} is ${state.status === 'starting' ? 'being started' : state.status}`);
    // Whoever ends a container gives the lock back before that is known: only those who look have it, for no time.
    const record = new HeldRecord(home, id, lockFile(runnerLock(home, id)));
    ftruncateSync(record.#held.number);
    writeState(home, starting(state));
    return record;
  }

  /**
   * Takes over what another process held.
   *
   * @param home - where state is kept
   * @param id - of the container
   * @param held - its lock
   * @returns the record
   */
  static adopt(home: string, id: string, held: Fd): HeldRecord {
    return new HeldRecord(home, id, held);
  }

  /** Where files of this container may be kept: they go with it. */
  get directory(): string {
    return containerDirectory(this.home, this.id);
  }

  /** The lock, to hand it over. */
  get lock(): Fd {
    return this.#held;
  }

  /** What is written. */
  get state(): ContainerState {
    using _one = lockAll(this.home);
    const state = readOne(this.home, this.id);
    if (!state) throw new UsageError(`no such container: ${this.id.slice(0, 12)}`);
    return state;
  }

  /** Adds to it what became known; what it is then. */
  update(more: StateChange | ((state: ContainerState) => StateChange), told?: Told): ContainerState | undefined {
    return updateContainer(this.home, this.id, more, told);
  }

  /**
   * It is made, and there for everybody.
   *
   * @param start - to be started at once by whoever holds this
   * @returns what it is now
   */
  complete(start = false): ContainerState | undefined {
    return this.update((state) => (start ? starting(state) : { status: 'created' }), 'create');
  }

  /**
   * Its run is over: the lock is given back, and what goes with its end goes.
   *
   * @param change - how it ended
   * @returns what there was
   */
  finish(change: StateChange): ContainerState | undefined {
    using _one = lockAll(this.home);
    const state = readOne(this.home, this.id);
    if (!state || this.#held.closed) return undefined;
    const next = {
      ...state,
      ...change,
      pid: undefined,
      pidStart: undefined,
      cgroup: undefined,
    } as unknown as ContainerState;
    // Whoever waits has this file open, and reads it even where the record is gone.
    writeSync(this.#held.number, String(next.exitCode ?? 0));
    if (next.oomKilled) emit(this.home, 'oom', next);
    if (next.status === 'exited') emit(this.home, ['die', { exitCode: String(next.exitCode ?? 0) }], next);
    if (next.autoRemove) discard(this.home, next);
    else writeState(this.home, next);
    this.#held.close();
    return next;
  }

  /** Gives it back. */
  [Symbol.dispose](): void {
    if (this.#held.closed) return;
    using _one = lockAll(this.home);
    this.#held.close();
    readOne(this.home, this.id);
  }
}

/** What the last run was, is forgotten when the next one begins. */
function starting(state: ContainerState): ContainerState {
  const { exitCode: _code, error: _error, oomKilled: _oom, finishedAt: _finished, stopped: _stopped, ...rest } = state;
  const { health: _health, ...before } = rest;
  return { ...before, status: 'starting', restartCount: 0 };
}

/**
 * Opens what tells of the end of a container, also where its record goes with that end.
 *
 * @param home - where state is kept
 * @param id - of the container
 * @returns for {@link waitForEnd}; undefined where it is gone
 */
export function openEnd(home: string, id: string): Fd | undefined {
  try {
    return openLock(runnerLock(home, id));
  } catch (error) {
    if (KernelError.is(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/**
 * Waits until nobody runs a container. Blocks this thread: for commands that do nothing else.
 *
 * @param home - where state is kept
 * @param id - of the container
 * @param end - opened before; it is closed then
 * @returns its exit code, of its last run where it does not run
 */
export function waitForEnd(home: string, id: string, end: Fd | undefined = openEnd(home, id)): number {
  if (end) {
    using ended = end;
    waitForLock(ended);
    const text = readFileSync(ended.number, 'utf8');
    if (text !== '') return Number(text);
  }
  using _one = lockAll(home);
  return readOne(home, id)?.exitCode ?? 137;
}
