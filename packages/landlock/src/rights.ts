import { invalid } from '@iso/sys';
import { fsRights, type logFlags, type netRights, type scopes } from './raw/landlock.js';

/** A right on files, see landlock(7): what is handled is denied where no rule allows it. */
export type FileRight = keyof typeof fsRights;
/** A right on ports. */
export type NetRight = keyof typeof netRights;
/** What is kept inside the domain: connecting to abstract unix sockets, sending signals. */
export type Scope = keyof typeof scopes;
/** What of denials is written to the audit log, see landlock_restrict_self(2). */
export type LogFlag = keyof typeof logFlags;

/** Rights by their names, and the ABI that has each first. */
export type Table = Readonly<Record<string, { readonly bit: number; readonly abi: number }>>;

const reading = ['read-file', 'read-dir'] as const;
const writing = [
  'write-file',
  'truncate',
  'remove-dir',
  'remove-file',
  'make-char',
  'make-dir',
  'make-reg',
  'make-sock',
  'make-fifo',
  'make-block',
  'make-sym',
  'refer',
  'ioctl-dev',
  'resolve-unix',
] as const;

/** Short names for what is wanted of a place most of the time. */
const accesses = {
  /** Read files and list directories. */
  read: reading,
  /** That, and execute. */
  execute: ['execute', ...reading],
  /** That, and change everything but devices' settings: no `make-char`, `make-block`, `ioctl-dev`. */
  write: ['execute', ...reading, ...writing.filter((name) => !['make-char', 'make-block', 'ioctl-dev'].includes(name))],
  /** Everything. */
  all: ['execute', ...reading, ...writing],
} as const satisfies Readonly<Record<string, readonly FileRight[]>>;

/** Rights of a place: a short name, or the rights themselves. */
export type Access = keyof typeof accesses | readonly FileRight[];

/**
 * The rights of an access.
 *
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what is none
 */
export function rightsOf(access: Access): readonly FileRight[] {
  if (typeof access === 'string' && Object.hasOwn(accesses, access)) return accesses[access];
  if (!Array.isArray(access) || access.length === 0)
    throw invalid(`access is one of ${Object.keys(accesses).join(', ')} or rights in an array, not ${String(access)}`);
  refuseOthers('right on files', access, fsRights);
  return access;
}

/** Throws for a name that a table lacks. */
export function refuseOthers(what: string, names: readonly unknown[], table: Table): void {
  if (!Array.isArray(names)) throw invalid(`not an array: ${String(names)}`);
  for (const name of names)
    if (typeof name !== 'string' || !Object.hasOwn(table, name))
      throw invalid(`no ${what}: ${JSON.stringify(name)}, there are ${Object.keys(table).join(', ')}`);
}

/** The names of a table that an ABI has. */
export function since<Name extends string>(
  table: Readonly<Record<Name, { readonly abi: number }>>,
  abi: number,
): Name[] {
  return (Object.keys(table) as Name[]).filter((name) => table[name].abi <= abi);
}

/** Names as bits. */
export function bitsOf(names: readonly string[], table: Table): bigint {
  return names.reduce((bits, name) => bits | (1n << BigInt((table[name] as { bit: number }).bit)), 0n);
}
