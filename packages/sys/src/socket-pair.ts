import { Fd } from './fd.js';
import { AF, O } from './raw/flags.js';
import { syscall } from './syscall.js';

/**
 * Two connected Unix sockets, closed on exec.
 *
 * @param type - of socket(2): `SOCK.STREAM`, `SOCK.SEQPACKET` …
 * @returns both ends, the caller's to close
 * @throws {@link KernelError} `EMFILE`, `ENFILE`; see socketpair(2)
 *
 * @example
 * ```ts
 * import { SOCK, socketPair, syscall } from '@iso/sys';
 * const [near, far] = socketPair(SOCK.STREAM);
 * syscall('write', near, 'x', 1);
 * if (syscall('read', far, Buffer.alloc(8), 8) !== 1) throw new Error('nothing came through');
 * near.close();
 * far.close();
 * ```
 */
export function socketPair(type: number): [Fd, Fd] {
  const ends = Buffer.alloc(8);
  syscall('socketpair', AF.UNIX, type | O.CLOEXEC, 0, ends);
  return [Fd.own(ends.readInt32LE(0)), Fd.own(ends.readInt32LE(4))];
}
