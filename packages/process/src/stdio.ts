import { Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { attempt, F, Fd, invalid, O, syscall } from '@iso/sys';
import { Pty, type TerminalSize } from './pty.js';

/** What one of the child's descriptors is: as in `child_process`, plus `pty` and {@link Fd}. */
export type StdioItem = 'pipe' | 'inherit' | 'ignore' | 'pty' | number | Fd | { readonly fd: number };

/** All of the child's descriptors: one word for the first three, or one item each, as many as wanted. */
export type Stdio = 'pipe' | 'inherit' | 'ignore' | 'pty' | readonly StdioItem[];

/** Both sides of a child's descriptors. */
export interface OpenStdio {
  /** What the child gets, by its number. */
  readonly child: Fd[];
  /** This side's streams, null where there is none. */
  readonly streams: (Readable | Writable | null)[];
  /** The terminal, where `pty` was asked for. */
  readonly pty: Pty | undefined;
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
  const items: readonly StdioItem[] = typeof stdio === 'string' ? [stdio, stdio, stdio] : stdio;
  const mine: Fd[] = [];
  const child: Fd[] = [];
  const streams: (Readable | Writable | null)[] = [];
  let pty: Pty | undefined;
  let nothing: Fd | undefined;
  const destroy = () => {
    for (const fd of mine) fd.close();
    for (const stream of streams) stream?.destroy();
    pty?.close();
  };
  try {
    for (const [i, item] of items.entries()) {
      let stream: Readable | Writable | null = null;
      if (item === 'pipe') {
        const ends = pipe();
        const [theirs, ours] = i === 0 ? [ends.reader, ends.writer] : [ends.writer, ends.reader];
        mine.push(theirs);
        child.push(theirs);
        stream = socket(ours, i !== 0);
      } else if (item === 'pty') {
        pty ??= Pty.open(size);
        child.push(pty.peer);
        if (i < 2) stream = pty.stream;
      } else if (item === 'ignore') {
        if (!nothing) mine.push((nothing = Fd.open('/dev/null', { flags: O.RDWR })));
        child.push(nothing);
      } else child.push(existing(item, i));
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
  return { child, streams, pty, closeChildSide, destroy };
}

function existing(item: StdioItem, index: number): Fd {
  const number =
    item === 'inherit' ? index : item instanceof Fd ? item.number : typeof item === 'object' ? item.fd : item;
  if (typeof number !== 'number' || !Number.isInteger(number) || number < 0) {
    throw invalid(
      `stdio[${index}] is ${String(item)}: not pipe, inherit, ignore, pty, a descriptor or a stream that has one`,
    );
  }
  const fd = Fd.borrow(number);
  const flags = attempt('fcntl', fd, F.GETFL, 0);
  // A standard stream that this process was started without is /dev/null for the child.
  if (flags < 0 && item !== 'inherit') syscall('fcntl', fd, F.GETFL, 0);
  return fd;
}

function pipe(): { reader: Fd; writer: Fd } {
  const ends = Buffer.alloc(8);
  syscall('pipe2', ends, O.CLOEXEC);
  return { reader: Fd.own(ends.readInt32LE(0)), writer: Fd.own(ends.readInt32LE(4)) };
}

/** Node's stream over this side of a pipe. Only this end becomes non-blocking: each end has its own open file. */
function socket(fd: Fd, readable: boolean): Readable | Writable {
  syscall('fcntl', fd, F.SETFL, O.NONBLOCK | (readable ? O.RDONLY : O.WRONLY));
  return new Socket({ fd: fd.release(), readable, writable: !readable });
}
