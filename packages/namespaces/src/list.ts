import { readdirSync, readlinkSync } from 'node:fs';
import { KernelError } from '@iso/sys';
import { Namespace } from './namespace.js';
import { type NamespaceType, types } from './type.js';

/** A namespace that has members. */
export interface ListedNamespace {
  type: NamespaceType;
  /** Inode number. */
  id: number;
  /** Pids in it, as the caller sees them, ascending. */
  pids: number[];
  /** Inode of the user namespace that owns it; undefined where that is above the caller's. */
  owner: number | undefined;
  /** Inode of its parent, for pid and user namespaces. */
  parent: number | undefined;
}

/**
 * The namespaces of all processes that the caller may look at: what `lsns` shows. `owner` and `parent` make it a tree.
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
  const wanted = (options.type ? [options.type] : Object.keys(types)) as NamespaceType[];
  const found = new Map<number, ListedNamespace>();
  for (const pid of readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .sort((a, b) => a - b)) {
    for (const type of wanted) {
      const id = inode(pid, type);
      if (id === undefined) continue;
      const known = found.get(id);
      if (known) known.pids.push(pid);
      else found.set(id, { type, id, pids: [pid], ...relations(pid, type) });
    }
  }
  return [...found.values()].sort((a, b) => a.id - b.id);
}

function inode(pid: number, type: NamespaceType): number | undefined {
  try {
    return Number(/\[(\d+)\]/.exec(readlinkSync(`/proc/${pid}/ns/${types[type].file}`))?.[1]);
  } catch {
    // Gone meanwhile, or somebody else's.
    return undefined;
  }
}

function relations(pid: number, type: NamespaceType): Pick<ListedNamespace, 'owner' | 'parent'> {
  const id = (open: () => Namespace) => {
    try {
      const namespace = open();
      namespace.close();
      return namespace.id;
    } catch (error) {
      if (KernelError.is(error)) return undefined;
      throw error;
    }
  };
  let self: Namespace;
  try {
    self = Namespace.open({ pid }, type);
  } catch {
    return { owner: undefined, parent: undefined };
  }
  const owner = id(() => self.owner());
  const parent = type === 'pid' || type === 'user' ? id(() => self.parent()) : undefined;
  self.close();
  return { owner, parent };
}
