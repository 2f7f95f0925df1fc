import {
  AT,
  addressOf,
  CLONE,
  Fd,
  KernelError,
  type LaunchProgram,
  MSG,
  O,
  SCM,
  type Slot,
  SOCK,
  SOL,
  socketPair,
  storeResult,
  syscall,
} from '@iso/sys';
import { sizeBytes, type TerminalSize } from './pty.js';
import { TTY } from './raw/termios.js';

const OPEN_TREE_CLONE = 1;
const OPEN_TREE_CLOEXEC = O.CLOEXEC;
const MOVE_MOUNT = { F_EMPTY_PATH: 4, T_EMPTY_PATH: 0x40 } as const;
/** What the message says, besides the descriptor. */
const NAME = '/dev/ptmx';

/**
 * Opens a terminal of the child's own devpts, in its own root, sends its master by a Unix socket (SCM_RIGHTS, see unix(7)), makes it
 * the controlling terminal of the child's session, and mounts it on /dev/console of a mount namespace that is new.
 *
 * @param program - the launch, with a root of its own
 * @param socket - connected; who is at its other end holds the terminal from then on
 * @param options - its size; who owns it
 * @returns slot of the child's end
 */
export function openConsole(
  program: LaunchProgram,
  socket: Fd,
  { size, uid = 0, gid = 0 }: { size?: TerminalSize | undefined; uid?: number | undefined; gid?: number | undefined },
): Slot {
  const phase = 'sysctl';
  const flags = O.RDWR | O.NOCTTY | O.CLOEXEC;
  const master = program.step(phase, 'openat', [AT.FDCWD, '/dev/pts/ptmx', flags, 0], {
    hint: { ENOENT: 'a console needs a devpts on /dev/pts of the root' },
  });
  program.step(phase, 'ioctl', [master, TTY.UNLOCK_PTY, Buffer.alloc(4)], { text: 'ioctl(ptmx, TIOCSPTLCK)' });
  if (size) program.step(phase, 'ioctl', [master, TTY.SET_SIZE, sizeBytes(size)], { text: 'ioctl(ptmx, TIOCSWINSZ)' });
  const peer = program.step(phase, 'ioctl', [master, TTY.OPEN_PEER, flags], { text: 'ioctl(ptmx, TIOCGPTPEER)' });
  program.step(phase, 'fchown', [peer, uid, gid], {
    // An id that the user namespace does not map keeps who opened it.
    ignore: ['EINVAL'],
  });
  send(program, socket, master);
  // In a mount namespace that is joined, /dev/console is that of the first process.
  if (program.unshared & CLONE.NEWNS) mountOn(program, '/dev/console', peer);
  program.step(phase, 'ioctl', [peer, TTY.SET_CONTROLLING, 0], { text: 'ioctl(console, TIOCSCTTY)' });
  return peer;
}

/** The number of the descriptor is known in the child alone, which writes it into the message. */
function send(program: LaunchProgram, socket: Fd, fd: Slot): void {
  const text = block(Buffer.from(NAME));
  const vector = block(Buffer.alloc(16));
  vector.writeBigUInt64LE(addressOf(text), 0);
  vector.writeBigUInt64LE(BigInt(NAME.length), 8);
  const control = block(Buffer.alloc(24));
  control.writeBigUInt64LE(20n, 0);
  control.writeInt32LE(SOL.SOCKET, 8);
  control.writeInt32LE(SCM.RIGHTS, 12);
  const message = block(Buffer.alloc(56));
  message.writeBigUInt64LE(addressOf(vector), 16);
  message.writeBigUInt64LE(1n, 24);
  message.writeBigUInt64LE(addressOf(control), 32);
  message.writeBigUInt64LE(24n, 40);
  storeResult(program, 'sysctl', fd, addressOf(control) + 16n, 'its master');
  program.step('sysctl', 'sendmsg', [socket, message, 0], { text: 'sendmsg(socket, SCM_RIGHTS: its master)' });
  // Until then nobody may collect what only addresses lead to. Taken out of something: a bundler drops what has no effect.
  const held = [text, vector, control];
  program.defer(() => void held.splice(0));
}

/** The socket by which this process takes a console's master itself. */
export class ConsoleSocket implements Disposable {
  /** The child's end. */
  readonly theirs: Fd;
  readonly #ours: Fd;

  constructor() {
    [this.#ours, this.theirs] = socketPair(SOCK.STREAM);
  }

  /**
   * Takes what the child has sent.
   *
   * @returns the master
   * @throws KernelError `EMFILE` where there is no room for one more descriptor
   */
  take(): Fd {
    const text = block(Buffer.alloc(NAME.length));
    const vector = block(Buffer.alloc(16));
    vector.writeBigUInt64LE(addressOf(text), 0);
    vector.writeBigUInt64LE(BigInt(NAME.length), 8);
    const control = block(Buffer.alloc(24));
    const message = block(Buffer.alloc(56));
    message.writeBigUInt64LE(addressOf(vector), 16);
    message.writeBigUInt64LE(1n, 24);
    message.writeBigUInt64LE(addressOf(control), 32);
    message.writeBigUInt64LE(24n, 40);
    const held = [text, vector, control];
    syscall('recvmsg', this.#ours, message, MSG.DONTWAIT | MSG.CMSG_CLOEXEC);
    held.splice(0);
    // The kernel passes over what it has no number for.
    if (control.readInt32LE(12) !== SCM.RIGHTS) throw new KernelError(-EMFILE, { syscall: 'recvmsg' });
    return Fd.own(control.readInt32LE(16));
  }

  /** Closes both ends. */
  [Symbol.dispose](): void {
    this.theirs.close();
    this.#ours.close();
  }
}

const EMFILE = 24;

/** In memory of its own, that stays where it is. */
function block(bytes: Buffer): Buffer {
  const own = Buffer.from(new ArrayBuffer(bytes.length));
  bytes.copy(own);
  return own;
}

/** A root without a place for it does without. */
function mountOn(program: LaunchProgram, path: string, terminal: Slot): void {
  const make = () =>
    program.step('sysctl', 'openat', [AT.FDCWD, path, O.RDONLY | O.CREAT | O.NOFOLLOW | O.NONBLOCK | O.CLOEXEC, 0o600]);
  let place: Slot;
  program.attempt('sysctl', ['EROFS', 'ENOENT', 'ELOOP', 'ENXIO', 'EACCES', 'EISDIR'], () => void (place = make()), {
    onSuccess: () => {
      const tree = program.step('sysctl', 'open_tree', [
        terminal,
        '',
        OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT.EMPTY_PATH,
      ]);
      program.step('sysctl', 'move_mount', [tree, '', place, '', MOVE_MOUNT.F_EMPTY_PATH | MOVE_MOUNT.T_EMPTY_PATH]);
    },
  });
}
