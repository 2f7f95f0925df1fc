import { readdirSync, readlinkSync } from 'node:fs';
import { type NamespaceType, types } from './type.js';

/** Pids of the processes that the caller can see, ascending. */
export function pids(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .sort((a, b) => a - b);
}

/**
 * The inode that a link to a namespace names.
 *
 * @param link - for example /proc/1/ns/net
 * @returns type's file name and inode; undefined where it is gone, somebody else's, or something else
 */
export function follow(link: string): { file: string; id: number } | undefined {
  let target: string;
  try {
    target = readlinkSync(link);
  } catch {
    return undefined;
  }
  const [, file, id] = /^(\w+):\[(\d+)\]$/.exec(target) ?? [];
  return file && file in fileTypes ? { file, id: Number(id) } : undefined;
}

/** Types by their names in links. */
export const fileTypes: Readonly<Record<string, NamespaceType>> = Object.fromEntries(
  Object.entries(types).map(([type, { file }]) => [file, type as NamespaceType]),
);

/**
 * The processes in a namespace.
 *
 * @param type - its type
 * @param id - its inode
 * @returns their pids as the caller sees them, ascending
 */
export function members(type: NamespaceType, id: number): number[] {
  return pids().filter((pid) => follow(`/proc/${pid}/ns/${types[type].file}`)?.id === id);
}
