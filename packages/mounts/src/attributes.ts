import { type Fd, invalid } from '@iso/sys';
import type { AttributeChange } from './calls/tree.js';
import { MOUNT_ATTR, MS } from './raw/flags.js';

/** Attributes that any mount can have, see mount_setattr(2). */
export interface MountFlags {
  readonly?: boolean;
  nosuid?: boolean;
  nodev?: boolean;
  noexec?: boolean;
  /** Symbolic links on it are not followed (Linux 5.14). */
  nosymfollow?: boolean;
  nodiratime?: boolean;
  /** When reading a file changes its access time. */
  atime?: 'relatime' | 'noatime' | 'strictatime';
}

/** How mounts and unmounts travel between a mount and its peers, see mount_namespaces(7). */
export type Propagation = 'private' | 'slave' | 'shared' | 'unbindable';

/** A user namespace as the map of an id-mapped mount. */
export type IdMap = Fd | { readonly fd: Fd };

/** A change of a mount. */
export interface MountChange extends MountFlags {
  /** Attributes to take away. What a more privileged mount namespace has set is locked: then `EPERM`. */
  clear?: readonly Exclude<keyof MountFlags, 'atime'>[];
  propagation?: Propagation;
  /** User namespace whose maps the mount gets: its descriptor, or an object that holds it, as `UserNamespace` of `@iso/namespaces`. */
  idmap?: IdMap;
}

const bits = {
  readonly: MOUNT_ATTR.RDONLY,
  nosuid: MOUNT_ATTR.NOSUID,
  nodev: MOUNT_ATTR.NODEV,
  noexec: MOUNT_ATTR.NOEXEC,
  nosymfollow: MOUNT_ATTR.NOSYMFOLLOW,
  nodiratime: MOUNT_ATTR.NODIRATIME,
} as const;
const atimes = { relatime: 0, noatime: MOUNT_ATTR.NOATIME, strictatime: MOUNT_ATTR.STRICTATIME } as const;
const propagations = { private: MS.PRIVATE, slave: MS.SLAVE, shared: MS.SHARED, unbindable: MS.UNBINDABLE } as const;
const names = Object.keys(bits) as (keyof typeof bits)[];

/**
 * Attribute bits of flags.
 *
 * @param flags - by name
 * @returns MOUNT_ATTR bits
 */
export function attributes(flags: MountFlags): number {
  const set = names.reduce((set, name) => set | (flags[name] ? bits[name] : 0), 0);
  return set | (flags.atime ? atimes[flags.atime] : 0);
}

/** A change as mount_setattr(2) takes it. */
export function attributeChange(change: MountChange): AttributeChange {
  const clear = (change.clear ?? []).reduce((clear, name) => clear | bits[name], 0);
  return {
    set: attributes(change),
    // The modes of atime are one field.
    clear: clear | (change.atime ? MOUNT_ATTR._ATIME : 0),
    propagation: change.propagation ? propagations[change.propagation] : 0,
    ...(change.idmap ? { idmap: descriptor(change.idmap) } : {}),
  };
}

function descriptor(idmap: IdMap): Fd {
  const fd = (idmap as { fd?: Fd }).fd ?? (idmap as Fd);
  if (typeof fd.number !== 'number') throw invalid('idmap is neither a user namespace nor the descriptor of one');
  return fd;
}
