import {
  existsSync,
  fstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { Fd, lockFile, O } from '@iso/sys';
import type { Confinement } from '../assemble.js';
import { emit } from '../events/emit.js';
import type { HealthConfig } from '../health/config.js';
import type { Health } from '../health/health.js';
import { UsageError } from '../options.js';
import type { RunFlags } from '../recipe.js';
import { complain } from '../say.js';
import { checkState } from './check.js';
import { isLocked } from './lock.js';

/** Docker's words, and `starting`, `creating`: on the way; `removing`: what is left of it on the disk is still to go. */
export const statuses = [
  'creating',
  'created',
  'starting',
  'running',
  'paused',
  'restarting',
  'exited',
  'removing',
] as const;

/** What is known of a container. */
export interface ContainerState {
  /** Of this form. */
  version: 2;
  /** 64 hexadecimal digits. */
  id: string;
  name: string;
  /** ISO 8601. */
  createdAt: string;
  /** Its root, or the name of its image, as it was given. */
  root: string;
  /** Digest of its image, where it has one; its own layer is called by its id then. */
  image?: string;
  /** Where its layer is, if not with the usual storage driver. */
  storageDriver?: string;
  command: readonly string[];
  /** What it runs, with what its image says; absent for a directory. */
  line?: readonly string[];
  /** Everything else that it was made from: enough to start it again. */
  flags: RunFlags;
  labels: Readonly<Record<string, string>>;
  status: (typeof statuses)[number];
  /** Its first process, as its starter sees it; absent while none runs. */
  pid?: number;
  /** When that began, as `startTime()` has it: by this it is told from another that got its number. */
  pidStart?: string;
  /** One of its cgroup's directories; absent where it has none. */
  cgroup?: string;
  /** What each of its processes gets; absent until it has run. */
  confinement?: Confinement;
  /** Of its last run. */
  exitCode?: number;
  /** Why its last start failed. */
  error?: string;
  oomKilled?: boolean;
  /** ISO 8601. */
  startedAt?: string;
  finishedAt?: string;
  /** How often its policy has started it again. */
  restartCount: number;
  /** It goes when it has ended. */
  autoRemove: boolean;
  /** It was ended by a command: its policy does not start it again. */
  stopped?: boolean;
  /** How it is found out whether it is well, of its options and its image. */
  healthcheck?: HealthConfig;
  /** Whether it is, in its last run; absent where nobody asks. */
  health?: Health;
}

/** What may change of a record; undefined takes a value away. */
export type StateChange = { [K in Exclude<keyof ContainerState, 'version' | 'id'>]?: ContainerState[K] | undefined };

/** Of a process that was killed: SIGKILL's number, and 128. */
const KILLED = 137;

/**
 * The directory of a container's record.
 *
 * @param home - where state is kept
 * @param id - of the container
 * @returns its path
 */
export function containerDirectory(home: string, id: string): string {
  return join(home, 'containers', id);
}

/** Path of the lock that whoever runs a container holds. When that ends, its exit code stands in the file, for those who wait. */
export function runnerLock(home: string, id: string): string {
  return join(containerDirectory(home, id), 'lock');
}

/** Nobody else changes a record meanwhile. */
export function lockAll(home: string): Fd {
  const all = join(home, 'containers');
  mkdirSync(all, { recursive: true, mode: 0o700 });
  return lockFile(join(all, 'lock'));
}

/** All records, those of the dead put right. Under the lock of all. */
export function readAll(home: string): ContainerState[] {
  return readRaw(home).flatMap((state) => settle(home, state) ?? []);
}

/** One record, put right where its runner is dead. Under the lock of all. */
export function readOne(home: string, id: string): ContainerState | undefined {
  const state = readState(home, id);
  return state === undefined || state === 'unreadable' ? undefined : settle(home, state);
}

/** As they are written; what cannot be read is told of, and left out. Under the lock of all. */
export function readRaw(home: string): ContainerState[] {
  return directories(home).flatMap((id) => {
    const state = readState(home, id);
    if (state === 'unreadable') return [];
    // Of a command that was killed before it had written anything.
    if (!state && !isLocked(runnerLock(home, id)))
      rmSync(containerDirectory(home, id), { recursive: true, force: true });
    return state ?? [];
  });
}

/**
 * Ids of records that cannot be read: of another version of iso, or damaged. Only who names one removes it. Under the lock of all.
 *
 * @param home - where state is kept
 * @param word - as much of the id as is unlike any other's
 */
export function unreadable(home: string, word: string): string[] {
  return directories(home).filter((id) => id.startsWith(word) && readState(home, id) === 'unreadable');
}

function directories(home: string): string[] {
  return readdirSync(join(home, 'containers'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name);
}

/**
 * A record that says that something is going on, and that nobody holds: its runner was killed, and the container with it. Whoever finds
 * that writes it down.
 */
function settle(home: string, state: ContainerState): ContainerState | undefined {
  if (state.status === 'removing') return undefined;
  const over = state.status === 'created' || (state.status === 'exited' && !state.autoRemove);
  if (over || isLocked(runnerLock(home, state.id))) return state;
  if (state.status === 'creating' || state.status === 'exited') return discard(home, state);
  const { pid: _, pidStart: _start, ...rest } = state;
  const error = 'the process that ran it was killed';
  const dead: ContainerState = { ...rest, status: 'exited', exitCode: KILLED, error, finishedAt: now() };
  emit(home, ['die', { exitCode: String(KILLED) }], dead);
  if (dead.autoRemove) return discard(home, dead);
  writeState(home, dead);
  return dead;
}

/** Its name is free. What takes time to remove is left to `clean()`. */
export function discard(home: string, state: ContainerState): undefined {
  // One that was never whole has not been told of either.
  if (state.status !== 'creating') emit(home, 'destroy', state);
  if (state.image !== undefined || state.cgroup !== undefined) writeState(home, { ...state, status: 'removing' });
  else rmSync(containerDirectory(home, state.id), { recursive: true, force: true });
  return undefined;
}

/**
 * Discards the containers that do not run.
 *
 * @param home - where state is kept
 * @returns their ids
 */
export function discardOver(home: string): string[] {
  using _one = lockAll(home);
  const over = readAll(home).filter(({ status }) => status === 'created' || status === 'exited');
  // One that is being started is locked, whatever it says yet.
  const free = over.filter(({ id }) => !isLocked(runnerLock(home, id)));
  for (const state of free) discard(home, state);
  return free.map(({ id }) => id);
}

/** ISO 8601. */
export function now(): string {
  return new Date().toISOString();
}

/** Those of this process that it has told of. */
const toldOf = new Set<string>();

function readState(home: string, id: string): ContainerState | 'unreadable' | undefined {
  const file = join(containerDirectory(home, id), 'state.json');
  if (!existsSync(file)) return undefined;
  try {
    return checkState(JSON.parse(readRegular(file)), id);
  } catch (error) {
    // Its container may run: it is neither changed nor removed, and no reason for anything else to fail.
    if (!toldOf.has(id))
      complain(`the record of container ${id.slice(0, 12)} cannot be read: ${(error as Error).message}`);
    toldOf.add(id);
    return 'unreadable';
  }
}

/** Whatever else stands there keeps nobody waiting. */
function readRegular(path: string): string {
  using file = Fd.open(path, { flags: O.RDONLY | O.NONBLOCK | O.NOFOLLOW });
  if (!fstatSync(file.number).isFile()) throw new UsageError('it is no regular file');
  return readFileSync(file.number, 'utf8');
}

/** Readers see the old or the new one, never half of it. */
export function writeState(home: string, state: ContainerState): void {
  const directory = containerDirectory(home, state.id);
  const next = join(directory, 'state.json.new');
  writeFileSync(next, `${JSON.stringify(state)}\n`, { mode: 0o600 });
  renameSync(next, join(directory, 'state.json'));
}
