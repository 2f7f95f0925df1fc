import { startTime } from '@iso/sys';
import { emit, type Told } from '../events/emit.js';
import { checkName, UsageError } from '../options.js';
import { type ContainerState, lockAll, readAll, readOne, type StateChange, writeState } from './document.js';

export { type ContainerState, containerDirectory, type StateChange } from './document.js';

/** A container that lives, found by name or id. */
export interface LiveContainer extends ContainerState {
  /** Its first process. */
  pid: number;
  status: 'running' | 'paused';
}

/**
 * The containers of this user, running or not. What the dead left is put right.
 *
 * @param home - where state is kept
 * @returns their records, the oldest first
 */
export function listContainers(home: string): ContainerState[] {
  using _one = lockAll(home);
  return readAll(home)
    .filter(({ status }) => status !== 'creating')
    .sort((a, b) => (a.createdAt < b.createdAt ? -1 : 1));
}

/**
 * Whether it has a process, and which.
 *
 * @param container - its record
 */
export function isLive(container: ContainerState): container is LiveContainer {
  return container.pid !== undefined && (container.status === 'running' || container.status === 'paused');
}

/**
 * Whether the number of its first process is still its own, and not another's that began later. To be asked when a descriptor of it is open.
 *
 * @param container - its record
 */
export function isItself({ pid, pidStart }: Pick<LiveContainer, 'pid' | 'pidStart'>): boolean {
  return startTime(pid) === pidStart;
}

/**
 * Finds a container, running or not.
 *
 * @param home - where state is kept
 * @param word - its name, its id, or as much of the id as is unlike any other's
 * @returns its record
 * @throws {@link UsageError} where there is none, or more than one
 */
export function lookUp(home: string, word: string): ContainerState {
  const found = search(home, word);
  if (!found) throw new UsageError(`no such container: ${word}`);
  return found;
}

/**
 * The same, where it is no matter whether there is one.
 *
 * @param home - where state is kept
 * @param word - as for {@link lookUp}
 * @returns its record, where there is one
 * @throws {@link UsageError} where there is more than one
 */
export function search(home: string, word: string): ContainerState | undefined {
  const all = listContainers(home);
  const byId = /^[0-9a-f]+$/.test(word) ? all.filter(({ id }) => id.startsWith(word)) : [];
  const named = all.find(({ name }) => name === word);
  if (!named && byId.length > 1) throw new UsageError(`more than one container has an id that begins with ${word}`);
  return named ?? byId[0];
}

/**
 * Finds a running container.
 *
 * @param home - where state is kept
 * @param word - as for {@link lookUp}
 * @returns its record
 * @throws {@link UsageError} where there is none, or more than one, or where it does not run
 */
export function findContainer(home: string, word: string): LiveContainer {
  const found = lookUp(home, word);
  if (!isLive(found))
    throw new UsageError(`container ${word} is not running${found.status === 'starting' ? ' yet' : ''}`);
  if (!isItself(found)) throw new UsageError(`the process of container ${word} has ended`);
  return found;
}

/**
 * Changes the record of a container, this process's or another's.
 *
 * @param home - where state is kept
 * @param id - of the container
 * @param more - what changes, or what makes that of what it is
 * @param told - what others are told of it
 * @returns what it is now; undefined where it is gone
 */
export function updateContainer(
  home: string,
  id: string,
  more: StateChange | ((state: ContainerState) => StateChange),
  told?: Told,
): ContainerState | undefined {
  using _one = lockAll(home);
  const state = readOne(home, id);
  if (!state) return undefined;
  const next = { ...state, ...(typeof more === 'function' ? more(state) : more) } as ContainerState;
  writeState(home, next);
  if (told !== undefined) emit(home, told, next);
  return next;
}

/**
 * Gives a container another name.
 *
 * @param home - where state is kept
 * @param word - as for {@link lookUp}
 * @param name - the new one
 * @throws {@link UsageError} for what is no name, or another's
 */
export function renameContainer(home: string, word: string, name: string): void {
  checkName(name);
  const { id, name: oldName } = lookUp(home, word);
  using _one = lockAll(home);
  requireFree(home, name);
  const state = readOne(home, id);
  if (!state) throw new UsageError(`no such container: ${word}`);
  writeState(home, { ...state, name });
  emit(home, ['rename', { oldName }], { ...state, name });
}

/** Two may not both find a name free: under the lock of all. */
export function requireFree(home: string, name: string): void {
  const other = readAll(home).find((state) => state.name === name);
  if (other) throw new UsageError(`the name ${JSON.stringify(name)} is in use by container ${other.id.slice(0, 12)}`);
}
