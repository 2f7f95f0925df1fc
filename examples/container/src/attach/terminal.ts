import { attempt } from '@iso/sys';

/** ioctls of terminals, see tty_ioctl(4). */
const GET_ATTRIBUTES = 0x5401;
const SET_ATTRIBUTES = 0x5402;
/** struct termios: the flags of output are its second word. */
const SIZE = 36;
const OUTPUT = 4;
const OPOST = 1;

/**
 * Puts this process's terminal into raw mode, until the end of this process at the latest.
 *
 * @returns to be disposed to have it as before
 */
export function rawTerminal(): Disposable {
  if (!process.stdin.isTTY || process.stdin.isRaw) return { [Symbol.dispose]: () => {} };
  const cooked = () => process.stdin.setRawMode(false);
  process.stdin.setRawMode(true);
  passOutput(0);
  process.once('exit', cooked);
  return {
    [Symbol.dispose]() {
      cooked();
      process.off('exit', cooked);
    },
  };
}

/** Node's raw mode still puts a carriage return before each line feed, which the container's own terminal has done already. */
function passOutput(fd: number): void {
  const attributes = Buffer.alloc(SIZE);
  if (attempt('ioctl', fd, GET_ATTRIBUTES, attributes) < 0) return;
  attributes.writeUInt32LE((attributes.readUInt32LE(OUTPUT) & ~OPOST) >>> 0, OUTPUT);
  attempt('ioctl', fd, SET_ATTRIBUTES, attributes);
}
