import { Socket } from 'node:net';
import type { Readable, Stream, Writable } from 'node:stream';
import { AF, attempt, F, Fd, invalid, KernelError, O, SOCK, syscall } from '@iso/sys';
import { Pty, type TerminalSize } from './pty.js';

/**
 * What one of the child's descriptors is: as in `child_process`, plus `pty` and {@link Fd}. From number 3 on a `pipe` goes both
 * ways, and `ignore` leaves the number free; null means `pipe` for the first three and `ignore` for others. Where the child has a root
 * of its own, its own null device takes the place of this process's, by whatever item it was given; a new root without one keeps that,
 * a joined one without is an error.
 */
export type StdioItem =
  | 'pipe'
  | 'inherit'
  | 'ignore'
  | 'pty'
  | number
  | Fd
  | { readonly fd: number }
  | Stream
  | null
  | undefined;

/** All of the child's descriptors: one word for the first three, or one item each, as many as wanted. */
export type Stdio = 'pipe' | 'inherit' | 'ignore' | 'pty' | readonly StdioItem[];

/** Both sides of a child's descriptors. */
export interface OpenStdio {
  /** What the child gets, by its number; null where a number stays free. */
  readonly child: (Fd | null)[];
  /** This side's streams, null where there is none. */
  readonly streams: (Readable | Writable | null)[];
  /** The terminal, where `pty` was asked for. */
  pty(): Pty | undefined;
  /** A terminal that the child has opened itself stands for its first three descriptors. */
  adopt(pty: Pty): void;
  /** Closes the child's side in this process. */
  closeChildSide(): void;
  /** Closes everything. */
  destroy(): void;
}

/**
 * Opens what a child's descriptors need.
 *
 * @param stdio - what was asked for
 * @param size - of a terminal
 * @returns both sides
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for an item that is none
 * @throws KernelError `EMFILE`, `EBADF`
 */
export function openStdio(stdio: Stdio, size?: TerminalSize): OpenStdio {
  const items = stdioItems(stdio);
  const mine: Fd[] = [];
  const child: (Fd | null)[] = [];
  const streams: (Readable | Writable | null)[] = [];
  let pty: Pty | undefined;
  let nothing: Fd | undefined;
  const destroy = () => {
    for (const fd of mine) fd.close();
    for (const stream of streams) stream?.destroy();
    pty?.close();
  };
  const devNull = () => {
    if (!nothing) mine.push((nothing = Fd.open('/dev/null', { flags: O.RDWR })));
    return nothing;
  };
  try {
    for (const [i, item] of items.entries()) {
      let stream: Readable | Writable | null = null;
      if (item === 'pipe') {
        const { theirs, ours } = pipe(i);
        mine.push(theirs);
        child.push(theirs);
        stream = socket(ours, i);
      } else if (item === 'pty') {
        pty ??= Pty.open(size);
        child.push(pty.peer);
        if (i < 2) stream = pty.stream;
      } else if (item === 'ignore') child.push(i < 3 ? devNull() : null);
      else child.push(existing(item, i) ?? devNull());
      streams.push(stream);
    }
  } catch (error) {
    destroy();
    throw error;
  }
  const closeChildSide = () => {
    for (const fd of mine) fd.close();
    pty?.peer.close();
  };
  return {
    child,
    streams,
    pty: () => pty,
    adopt(opened) {
      pty = opened;
      streams.splice(0, 3, pty.stream, pty.stream, null);
    },
    closeChildSide,
    destroy,
  };
}

/**
 * One item for each of the child's descriptors, the first three always among them.
 *
 * @param stdio - what was asked for
 * @returns the items
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what is neither a word nor an array
 */
export function stdioItems(stdio: Stdio): Exclude<StdioItem, null | undefined>[] {
  if (typeof stdio !== 'string' && !Array.isArray(stdio))
    throw invalid(`stdio is ${String(stdio)}: not a word or an array`);
  const items = typeof stdio === 'string' ? Array<StdioItem>(3).fill(stdio as StdioItem) : (stdio as StdioItem[]);
  return Array.from({ length: Math.max(3, items.length) }, (_, i) => items[i] ?? (i < 3 ? 'pipe' : 'ignore'));
}

/** A descriptor that is open already; undefined for a standard stream that this process has closed. */
function existing(item: Exclude<StdioItem, null | undefined>, index: number): Fd | undefined {
  let number: unknown = item;
  if (item === 'inherit') number = index;
  else if (item instanceof Fd) ({ number } = item);
  // A socket's descriptor has no public name; child_process looks there too.
  else if (typeof item === 'object')
    number = (item as { _handle?: { fd?: number } })._handle?.fd ?? (item as { fd?: number }).fd;
  if (typeof number !== 'number' || !Number.isInteger(number) || number < 0) {
    throw invalid(
      `stdio[${index}] is ${String(item)}: not pipe, inherit, ignore, pty, a descriptor or a stream that has one`,
    );
  }
  const fd = Fd.borrow(number);
  if (item === 'inherit' && attempt('fcntl', fd, F.GETFL, 0) < 0) return undefined;
  syscall('fcntl', fd, F.GETFL, 0);
  return fd;
}

/** Both ends of a pipe; from number 3 on of a socket pair, which goes both ways, as in `child_process`. */
function pipe(index: number): { theirs: Fd; ours: Fd } {
  const ends = Buffer.alloc(8);
  if (index < 3) syscall('pipe2', ends, O.CLOEXEC);
  else syscall('socketpair', AF.UNIX, SOCK.STREAM | O.CLOEXEC, 0, ends);
  const [reader, writer] = [Fd.own(ends.readInt32LE(0)), Fd.own(ends.readInt32LE(4))];
  return index === 0 ? { theirs: reader, ours: writer } : { theirs: writer, ours: reader };
}

/** Node's stream over this side of a pipe. Only this end becomes non-blocking: each end has its own open file. */
function socket(fd: Fd, index: number): Readable | Writable {
  const [readable, writable] = [index !== 0, index === 0 || index > 2];
  const set = attempt('fcntl', fd, F.SETFL, O.NONBLOCK | (writable ? (readable ? O.RDWR : O.WRONLY) : O.RDONLY));
  if (set < 0) {
    fd.close();
    throw new KernelError(set, { syscall: 'fcntl', call: 'fcntl(pipe, F_SETFL, O_NONBLOCK)' });
  }
  // libuv never closes a number below 3.
  const high = fd.number < 3 ? fd.duplicate() : fd;
  if (high !== fd) fd.close();
  return new Socket({ fd: high.release(), readable, writable });
}
