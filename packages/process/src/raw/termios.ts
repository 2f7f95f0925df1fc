import { attempt, type Fd, syscall } from '@iso/sys';

/** ioctls of terminals, see tty_ioctl(4). */
export const TTY = {
  GET_ATTRIBUTES: 0x5401,
  SET_ATTRIBUTES: 0x5402,
  SET_CONTROLLING: 0x540e,
  SET_SIZE: 0x5414,
  UNLOCK_PTY: 0x40045431,
  OPEN_PEER: 0x5441,
} as const;

/** struct termios: four flag words, the line discipline, 19 control characters. */
const SIZE = 36;
const CONTROL = 17;
const VEOF = CONTROL + 4;
const VTIME = CONTROL + 5;
const VMIN = CONTROL + 6;
/** BRKINT, ICRNL and so on: everything that changes, swallows or interprets a byte. */
const INPUT = 0o2753;
const OPOST = 1;
const CSIZE_PARENB = 0o460;
const CS8 = 0o60;
const ICANON = 2;
/** ECHO, ECHONL, ICANON, ISIG, IEXTEN. */
const LOCAL = 0o100113;

/**
 * Attributes of a terminal.
 *
 * @param terminal - either end of it
 * @returns struct termios; undefined where it is no terminal
 */
export function attributesOf(terminal: Fd): Buffer | undefined {
  const attributes = Buffer.alloc(SIZE);
  return attempt('ioctl', terminal, TTY.GET_ATTRIBUTES, attributes) < 0 ? undefined : attributes;
}

/**
 * Sets them.
 *
 * @param terminal - either end of it
 * @param attributes - struct termios
 */
export function setAttributes(terminal: Fd, attributes: Buffer): void {
  syscall('ioctl', terminal, TTY.SET_ATTRIBUTES, attributes);
}

/**
 * The same attributes for a terminal that passes every byte as it is, see cfmakeraw(3).
 *
 * @param attributes - struct termios
 * @returns a changed copy
 */
export function raw(attributes: Buffer): Buffer {
  const copy = Buffer.from(attributes);
  const flags = (at: number, clear: number, set = 0) =>
    copy.writeUInt32LE(((copy.readUInt32LE(at) & ~clear) | set) >>> 0, at);
  flags(0, INPUT);
  flags(4, OPOST);
  flags(8, CSIZE_PARENB, CS8);
  flags(12, LOCAL);
  copy[VMIN] = 1;
  copy[VTIME] = 0;
  return copy;
}

/**
 * The character that ends the input of a terminal.
 *
 * @param attributes - struct termios
 * @returns the character, usually Ctrl-D; undefined where none does, in raw mode
 */
export function endOfInput(attributes: Buffer): number | undefined {
  return attributes.readUInt32LE(12) & ICANON ? attributes[VEOF] || undefined : undefined;
}
