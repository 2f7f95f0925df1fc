import { attempt, type Fd, KernelError, O, UnsupportedError } from '@iso/sys';
import { check, ERRNO } from '../file/call.js';
import type { DeviceNodes } from './nodes.js';

/** linux/loop.h and linux/major.h. */
const LOOP = { CONFIGURE: 0x4c0a, CTL_GET_FREE: 0x4c82, MAJOR: 7, FLAG_AUTOCLEAR: 4 } as const;
const CONTROL = { major: 10, minor: 237 } as const;
const CONFIG_SIZE = 304;
const INFO_FLAGS_AT = 8 + 52;
const INFO_NAME_AT = 8 + 56;

/** A file as a block device. */
export interface LoopDevice {
  major: number;
  minor: number;
  /** Holds it: when it is closed and nothing else uses the device, that is free again. */
  fd: Fd;
}

/**
 * Makes a file a block device, see loop(4), which is free again when its last user closes it.
 *
 * @param nodes - where device nodes come from
 * @param file - open for reading and writing
 * @param name - shown by losetup(8)
 * @returns the device
 * @throws UnsupportedError where the kernel has no loop devices
 */
export function attachLoop(nodes: DeviceNodes, file: Fd, name: string): LoopDevice {
  using control = openControl(nodes);
  const open = (minor: number) => nodes.open('block', LOOP.MAJOR, minor, O.RDWR);
  return { major: LOOP.MAJOR, ...takeFree(control, open, file, name) };
}

/**
 * Gives a file the first device that is free, and stays so until it has it.
 *
 * @param control - /dev/loop-control
 * @param open - opens the device of a number
 * @param file - open for reading and writing
 * @param name - shown by losetup(8)
 * @returns its number, and the device
 */
export function takeFree(control: Fd, open: (minor: number) => Fd, file: Fd, name = ''): { minor: number; fd: Fd } {
  const config = Buffer.alloc(CONFIG_SIZE);
  config.writeUInt32LE(file.number, 0);
  config.writeUInt32LE(LOOP.FLAG_AUTOCLEAR, INFO_FLAGS_AT);
  config.write(name.slice(0, 63), INFO_NAME_AT, 'utf8');
  // Somebody else may take the free one first.
  for (let i = 0; i < TRIES; i++) {
    const minor = check(attempt('ioctl', control, LOOP.CTL_GET_FREE), 'ioctl');
    const fd = open(minor);
    const result = attempt('ioctl', fd, LOOP.CONFIGURE, config);
    if (result >= 0) return { minor, fd };
    fd.close();
    const hint = 'LOOP_CONFIGURE needs Linux 5.8';
    if (result !== -ERRNO.EBUSY) check(result, 'ioctl', Buffer.from(name || `loop${minor}`), hint);
  }
  throw new KernelError(ERRNO.EBUSY, { syscall: 'ioctl', call: 'LOOP_CONFIGURE', hint: 'others took every free one' });
}

const TRIES = 64;

function openControl(nodes: DeviceNodes): Fd {
  try {
    return nodes.open('character', CONTROL.major, CONTROL.minor, O.RDWR);
  } catch (error) {
    if (!KernelError.is(error, 'ENODEV', 'ENXIO')) throw error;
    throw new UnsupportedError('loop devices', 'the kernel has none, or the module loop is not loaded: modprobe loop', {
      cause: error,
    });
  }
}
