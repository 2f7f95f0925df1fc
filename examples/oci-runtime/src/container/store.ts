import {
  fstatSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { AT, type Fd, KernelError, lockFile, syscall } from '@iso/sys';
import type { Config } from '../config/spec.js';
import { DamagedError, NoContainerError, RuntimeError } from '../error.js';
import type { ProcessIdentity } from './identity.js';
import type { SavedScope } from './scope.js';

/** What is kept of a container. */
export interface Saved {
  /** Of this form. */
  version: 1;
  id: string;
  bundle: string;
  /** ISO 8601. */
  created: string;
  /** Its first process; absent while it is made. */
  init?: ProcessIdentity;
  /** Whether it was let go. */
  started: boolean;
  /** Path of its cgroup, below the top of the hierarchies, where one could be made; absent where none was to be. */
  cgroup?: string;
  /** The scope of systemd that it is in, where it is systemd's. */
  scope?: SavedScope;
  /** As it was when the container was made. */
  config: Config;
}

function isSaved(value: unknown): value is Saved {
  const { version, id, bundle, created, started, init, cgroup, config } = Object(value) as Partial<Saved>;
  const { pid, startedAt } = init ?? { pid: 1, startedAt: '' };
  return (
    version === 1 &&
    [id, bundle, created, startedAt, cgroup ?? ''].every((text) => typeof text === 'string') &&
    typeof started === 'boolean' &&
    Number.isInteger(pid) &&
    pid > 0 &&
    Object(config) === config
  );
}

/** A directory has the name. */
const NAME = /^[a-zA-Z0-9_+.-]{1,255}$/;

/**
 * Refuses what is no id of a container.
 *
 * @param id - as it was given
 * @throws {@link RuntimeError}
 */
export function checkId(id: string): void {
  if (!NAME.test(id) || id === '.' || id === '..') throw new RuntimeError(`not an id: ${JSON.stringify(id)}`);
}

const GATE = 'gate';
const GROUP = 'cgroup';
const S_IFIFO = 0o010000;

/**
 * Where containers are kept, a directory each: its state, a lock, and the FIFO on which its first process waits. Private to its user.
 */
export class Store {
  readonly #root: string;

  /**
   * @param root - the directory, made where it is not there
   * @throws {@link RuntimeError} where others can write there
   */
  constructor(root: string) {
    this.#root = resolve(root);
    mkdirSync(this.#root, { recursive: true, mode: 0o700 });
    const info = lstatSync(this.#root);
    if (!info.isDirectory() || info.uid !== process.geteuid?.() || (info.mode & 0o022) !== 0)
      throw new RuntimeError(`${this.#root} is not this user's own directory, or others can write there`);
  }

  /** Those that there are, by id. */
  ids(): string[] {
    return readdirSync(this.#root, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name)
      .sort();
  }

  /**
   * Takes an id.
   *
   * @param id - of the new container
   * @returns its lock, for as long as it is made
   * @throws {@link RuntimeError} where it is no name, or another's
   */
  create(id: string): Fd {
    checkId(id);
    try {
      mkdirSync(join(this.#root, id), { mode: 0o711 });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      throw new RuntimeError(`container with id exists already: ${id}`);
    }
    try {
      syscall('mknodat', AT.FDCWD, this.gate(id), S_IFIFO | 0o600, 0);
      return this.lock(id);
    } catch (error) {
      this.remove(id);
      throw error;
    }
  }

  /**
   * Keeps others from changing a container meanwhile.
   *
   * @param id - of the container
   * @returns the lock
   * @throws {@link NoContainerError} where there is none
   */
  lock(id: string): Fd {
    const directory = join(this.#root, id);
    if (!NAME.test(id) || !statSync(directory, { throwIfNoEntry: false })?.isDirectory())
      throw new NoContainerError(id);
    const path = join(directory, 'lock');
    const lock = this.#locked(path, id);
    // While this waited it may have been removed, and another one made.
    if (statSync(path, { throwIfNoEntry: false })?.ino === fstatSync(lock.number).ino) return lock;
    lock.close();
    throw new NoContainerError(id);
  }

  #locked(path: string, id: string): Fd {
    try {
      return lockFile(path);
    } catch (error) {
      // Removed just now.
      throw KernelError.is(error, 'ENOENT') ? new NoContainerError(id) : error;
    }
  }

  /**
   * What is kept of a container.
   *
   * @param id - of the container
   * @returns its state; undefined where it is not made yet, or only half
   * @throws {@link NoContainerError} where there is none
   */
  read(id: string): Saved | undefined {
    if (!NAME.test(id)) throw new NoContainerError(id);
    const path = join(this.#root, id, 'state.json');
    let text: string;
    try {
      text = readFileSync(path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      if (!this.ids().includes(id)) throw new NoContainerError(id);
      return undefined;
    }
    try {
      const saved: unknown = JSON.parse(text);
      if (isSaved(saved)) return saved;
    } catch (error) {
      throw new DamagedError(path, error);
    }
    throw new DamagedError(path);
  }

  /** Notes which cgroup a container is to have: a link, which is there whole or not at all, whatever becomes of its state. */
  noteGroup(id: string, cgroup: string): void {
    symlinkSync(cgroup, join(this.#root, id, GROUP));
  }

  /**
   * What can still be read of a container that is to be removed.
   *
   * @param id - of the container
   * @returns its state, undefined where there is none to read; its cgroup
   * @throws {@link NoContainerError} where there is no container
   */
  rest(id: string): { saved: Saved | undefined; cgroup: string | undefined } {
    let saved: Saved | undefined;
    try {
      saved = this.read(id);
    } catch (error) {
      if (!(error instanceof DamagedError)) throw error;
    }
    try {
      return { saved, cgroup: readlinkSync(join(this.#root, id, GROUP)) };
    } catch {
      return { saved, cgroup: saved?.cgroup };
    }
  }

  /** Keeps it: whoever reads sees the old state or the new one. */
  write(saved: Saved): void {
    const path = join(this.#root, saved.id, 'state.json');
    writeFileSync(`${path}.new`, `${JSON.stringify(saved)}\n`, { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }

  /** Path of the FIFO on which its first process waits. */
  gate(id: string): string {
    return join(this.#root, id, GATE);
  }

  /** Forgets a container. */
  remove(id: string): void {
    rmSync(join(this.#root, id), { recursive: true, force: true });
  }
}
