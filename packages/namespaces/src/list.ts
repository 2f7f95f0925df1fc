import { fstatSync, readdirSync, readFileSync } from 'node:fs';
import { attempt, Fd, KernelError } from '@iso/sys';
import { fileTypes, follow, pids } from './members.js';
import { NS, openNamespace } from './raw/nsfs.js';
import { type NamespaceType, types } from './type.js';

/** A namespace of the machine. */
export interface ListedNamespace {
  type: NamespaceType;
  /** Inode number. */
  id: number;
  /** Pids in it, as the caller sees them, ascending. */
  pids: number[];
  /** Pids of processes that hold it by an open descriptor, ascending. */
  holders: number[];
  /** Paths that it is pinned to, in this process's mount table. */
  pins: string[];
  /** Inode of the user namespace that owns it; undefined where that is above the caller's. */
  owner: number | undefined;
  /** Inode of its parent, for pid and user namespaces; undefined for others, and where that is above the caller's. */
  parent: number | undefined;
}

/** A namespace and those below it. */
export interface NamespaceNode extends ListedNamespace {
  children: NamespaceNode[];
}

/**
 * The namespaces of the machine that the caller may look at: what `lsns` shows, and those that have no process: held by a
 * descriptor, pinned to a path, or above one that has.
 *
 * @param options - `type`: only these
 * @returns sorted by inode
 *
 * @example
 * ```ts
 * import { listNamespaces } from '@iso/namespaces';
 * const mine = listNamespaces({ type: 'net' }).find((entry) => entry.pids.includes(process.pid));
 * if (!mine) throw new Error('I am nowhere');
 * ```
 */
export function listNamespaces(options: { type?: NamespaceType } = {}): ListedNamespace[] {
  const found = new Map<number, ListedNamespace>();
  const note = (type: NamespaceType, id: number, open: () => Fd | undefined) => {
    let entry = found.get(id);
    if (!entry) {
      entry = { type, id, pids: [], holders: [], pins: [], owner: undefined, parent: undefined };
      found.set(id, entry);
      relate(entry, open, note);
    }
    return entry;
  };
  const wanted = (type: NamespaceType) => options.type === undefined || options.type === type;
  for (const pid of pids()) {
    for (const [type, { file }] of Object.entries(types) as [NamespaceType, { file: string }][]) {
      const link = `/proc/${pid}/ns/${file}`;
      const seen = wanted(type) && follow(link);
      if (seen) note(type, seen.id, () => openNamespace(link)).pids.push(pid);
    }
    for (const link of descriptors(pid)) {
      const seen = follow(link);
      const type = seen && fileTypes[seen.file];
      if (!seen || !type || !wanted(type)) continue;
      const { holders } = note(type, seen.id, () => openNamespace(link));
      if (holders.at(-1) !== pid) holders.push(pid);
    }
  }
  for (const { type, id, path } of pinned())
    if (wanted(type)) note(type, id, () => openNamespace(path)).pins.push(path);
  return [...found.values()].filter(({ type }) => wanted(type)).sort((a, b) => a.id - b.id);
}

/**
 * The same as a tree.
 *
 * @param by - below which one stands: `owner`, the user namespace that owns it, or `parent`, which pid and user namespaces have
 * @returns those that have nothing above them, or nothing that the caller sees
 */
export function namespaceTree(by: 'owner' | 'parent' = 'owner'): NamespaceNode[] {
  const nodes = new Map(listNamespaces().map((entry) => [entry.id, { ...entry, children: [] } as NamespaceNode]));
  const above = (node: NamespaceNode) => nodes.get(node[by] ?? -1);
  for (const node of nodes.values()) above(node)?.children.push(node);
  return [...nodes.values()].filter((node) => !above(node));
}

type Note = (type: NamespaceType, id: number, open: () => Fd | undefined) => ListedNamespace;

/** Finds out what is above a namespace, and lists that too. */
function relate(entry: ListedNamespace, open: () => Fd | undefined, note: Note): void {
  let fd: Fd | undefined;
  try {
    fd = open();
  } catch (error) {
    // Gone meanwhile, or somebody else's.
    if (!KernelError.is(error)) throw error;
  }
  if (!fd) return;
  using self = fd;
  const above = (request: number, type: NamespaceType) => {
    const number = attempt('ioctl', self, request);
    if (number < 0) return undefined;
    using fd = Fd.own(number);
    return note(type, fstatSync(number).ino, () => fd.duplicate()).id;
  };
  entry.owner = above(NS.GET_USERNS, 'user');
  if (entry.type === 'pid' || entry.type === 'user') entry.parent = above(NS.GET_PARENT, entry.type);
}

function descriptors(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).map((fd) => `/proc/${pid}/fd/${fd}`);
  } catch {
    return [];
  }
}

/** The fourth and fifth field of a line of mountinfo: what is bound, and where. */
function pinned(): { type: NamespaceType; id: number; path: string }[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').matchAll(/^\S+ \S+ \S+ (\w+):\[(\d+)\] (\S+) /gm);
  return [...lines].flatMap(([, file = '', id, path = '']) => {
    const type = fileTypes[file];
    const plain = path.replace(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
    return type ? [{ type, id: Number(id), path: Buffer.from(plain, 'latin1').toString() }] : [];
  });
}
