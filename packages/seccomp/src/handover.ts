import { randomBytes } from 'node:crypto';
import {
  addressOf,
  attempt,
  F,
  Fd,
  type LaunchProgram,
  MSG,
  SCM,
  SOCK,
  SOL,
  socketPair,
  storeResult,
  syscall,
} from '@iso/sys';
import type { Filter, Passage } from './filter.js';
import { type InstallOptions, install } from './part.js';
import { FLAG, MESSAGE } from './raw/seccomp.js';

/** Above every descriptor that a child is likely to be given. */
const HIGH = 600;

/**
 * How the listener of a filter comes here from the child that installs it. The child sends it by a socket, right behind the
 * filter, which may allow nothing: but one sendmsg passes, by three registers with random numbers that no sendmsg has arguments
 * in. They are gone with the exec, and there is nothing else that they would let through.
 */
export class Handover {
  /** Our end of the socket. */
  readonly socket: Fd;

  private constructor(socket: Fd) {
    this.socket = socket;
  }

  /**
   * Adds the steps that install a filter and send its listener.
   *
   * @param program - the launch
   * @param filter - a filter that notifies
   * @param flags - `SECCOMP_FILTER_FLAG_*` beside NEW_LISTENER
   * @param options - how it is installed
   */
  static add(program: LaunchProgram, filter: Filter, flags: number, options: InstallOptions): Handover {
    const [ours, theirsLow] = socketPair(SOCK.SEQPACKET);
    using low = theirsLow;
    program.undo(() => ours.close());
    const theirs = Fd.own(syscall('fcntl', low, F.DUPFD_CLOEXEC, HIGH));
    program.defer(() => theirs.close());
    program.keep(theirs);
    send(program, filter, theirs, flags, options);
    return new Handover(ours);
  }

  /**
   * Takes the listener, without waiting.
   *
   * @returns it; undefined where it has not come yet; null where it never will
   */
  take(): Fd | null | undefined {
    const memory = message();
    const received = attempt('recvmsg', this.socket, memory.bytes, MSG.DONTWAIT | MSG.CMSG_CLOEXEC);
    if (received < 0) return undefined;
    return received === 0 ? null : Fd.own(memory.bytes.readInt32LE(MESSAGE.fd));
  }
}

function send(program: LaunchProgram, filter: Filter, socket: Fd, flags: number, options: InstallOptions): void {
  const memory = message();
  memory.bytes.writeBigUInt64LE(20n, MESSAGE.control);
  memory.bytes.writeInt32LE(SOL.SOCKET, MESSAGE.control + 8);
  memory.bytes.writeInt32LE(SCM.RIGHTS, MESSAGE.control + 12);
  program.defer(() => void memory.bytes.length);
  const cookies = Array.from({ length: 3 }, () => randomBytes(8).readBigUInt64LE());
  const passage: Passage = {
    call: 'sendmsg',
    args: cookies.map((value, i) => ({ arg: 3 + i, op: '==', value })),
  };
  // The kernel gives the listener the lowest number that is free. It must stand in the message beforehand.
  const free = program.step('filter', 'fcntl', [socket, F.DUPFD_CLOEXEC, 0]);
  storeResult(program, 'filter', free, memory.address + BigInt(MESSAGE.fd), 'number of the listener');
  program.step('filter', 'close', [free]);
  const own = flags | FLAG.NEW_LISTENER | (flags & FLAG.TSYNC ? FLAG.TSYNC_ESRCH : 0);
  install(program, filter.bytesWith(passage), own, options);
  program.step('filter', 'sendmsg', [socket, memory.address, 0, ...cookies], {
    text: `sendmsg(${socket.number}, {SCM_RIGHTS, the listener})`,
  });
}

/** A struct msghdr with one byte of data and room for one descriptor. */
function message(): { bytes: Buffer; address: bigint } {
  const bytes = Buffer.from(new ArrayBuffer(MESSAGE.size));
  const address = addressOf(bytes);
  bytes.writeBigUInt64LE(address + BigInt(MESSAGE.iov), 16);
  bytes.writeBigUInt64LE(1n, 24);
  bytes.writeBigUInt64LE(address + BigInt(MESSAGE.control), 32);
  bytes.writeBigUInt64LE(BigInt(MESSAGE.controlSize), 40);
  bytes.writeBigUInt64LE(address + BigInt(MESSAGE.byte), MESSAGE.iov);
  bytes.writeBigUInt64LE(1n, MESSAGE.iov + 8);
  return { bytes, address };
}
