import { CLONE, invalid } from '@iso/sys';

/** The eight kinds of namespaces, see namespaces(7). */
export type NamespaceType = 'mount' | 'pid' | 'net' | 'uts' | 'ipc' | 'user' | 'cgroup' | 'time';

/** What the kernel calls each: its clone flag and its file in /proc/PID/ns. */
export const types: Readonly<Record<NamespaceType, { flag: number; file: string }>> = {
  mount: { flag: CLONE.NEWNS, file: 'mnt' },
  pid: { flag: CLONE.NEWPID, file: 'pid' },
  net: { flag: CLONE.NEWNET, file: 'net' },
  uts: { flag: CLONE.NEWUTS, file: 'uts' },
  ipc: { flag: CLONE.NEWIPC, file: 'ipc' },
  user: { flag: CLONE.NEWUSER, file: 'user' },
  cgroup: { flag: CLONE.NEWCGROUP, file: 'cgroup' },
  time: { flag: CLONE.NEWTIME, file: 'time' },
};

/**
 * The type that has a clone flag.
 *
 * @param flag - one of `CLONE.NEW*`
 * @returns its type
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for any other number
 */
export function typeOfFlag(flag: number): NamespaceType {
  const found = (Object.keys(types) as NamespaceType[]).find((type) => types[type].flag === flag);
  if (!found) throw invalid(`no namespace has the flag 0x${flag.toString(16)}`);
  return found;
}
