import { attempt, errnoName, type Fd, KernelError, O, UnsupportedError } from '@iso/sys';
import type { DeviceNodes } from './nodes.js';

/** ioctls and flags of linux/dm-ioctl.h. */
const DM = {
  DEV_CREATE: 3,
  DEV_REMOVE: 4,
  DEV_SUSPEND: 6,
  DEV_STATUS: 7,
  TABLE_LOAD: 9,
  TARGET_MSG: 14,
  SUSPEND_FLAG: 1 << 1,
  DEFERRED_REMOVE: 1 << 17,
} as const;
const CONTROL = { major: 10, minor: 236 } as const;
const HEADER = 312;
const AT = { dataSize: 12, dataStart: 16, targets: 20, open: 24, flags: 28, dev: 40, name: 48 } as const;
const SPEC = 40;

/** A mapped device. */
export interface MappedDevice {
  major: number;
  minor: number;
  /** How often it is open. */
  open: number;
}

/** One target of a table that covers the whole device. */
export interface DmTarget {
  type: string;
  /** Of 512 bytes. */
  sectors: number;
  parameters: string;
}

/** The device mapper, by its ioctls: no udev is waited for and no library asked. */
export class DeviceMapper implements Disposable {
  readonly #control: Fd;

  /**
   * @param nodes - where device nodes come from
   * @throws UnsupportedError where the kernel has no device mapper
   */
  constructor(nodes: DeviceNodes) {
    try {
      this.#control = nodes.open('character', CONTROL.major, CONTROL.minor, O.RDWR);
    } catch (error) {
      if (!KernelError.is(error, 'ENODEV', 'ENXIO', 'ENOENT')) throw error;
      const reason =
        'the kernel was built without it (CONFIG_BLK_DEV_DM), or its module is not loaded: modprobe dm-mod';
      throw new UnsupportedError('device mapper', reason, { cause: error });
    }
  }

  /**
   * Makes a device with a table, running.
   *
   * @param name - of the device
   * @param target - what it does
   * @returns the device
   * @throws KernelError `EBUSY` where there is one of that name; UnsupportedError for a target that the kernel does not have
   */
  create(name: string, target: DmTarget): MappedDevice {
    const made = this.#call(DM.DEV_CREATE, name);
    try {
      this.#load(name, target);
      this.#call(DM.DEV_SUSPEND, name);
      return device(made);
    } catch (error) {
      this.#try(DM.DEV_REMOVE, name);
      throw error;
    }
  }

  /**
   * A device.
   *
   * @param name - of the device
   * @returns it, or undefined where there is none
   */
  status(name: string): MappedDevice | undefined {
    const { result, bytes } = this.#try(DM.DEV_STATUS, name);
    if (result === -ENXIO) return undefined;
    if (result < 0) throw failure(result, DM.DEV_STATUS, name);
    return device(bytes);
  }

  /** Removes a device as soon as nobody has it open. Where it is gone, nothing happens. */
  removeWhenUnused(name: string): void {
    const { result } = this.#try(DM.DEV_REMOVE, name, undefined, DM.DEFERRED_REMOVE);
    if (result < 0 && result !== -ENXIO) throw failure(result, DM.DEV_REMOVE, name);
  }

  /** Stops a device: what is under way is written, a file system on it is frozen. Where there is none, nothing happens. */
  suspend(name: string): void {
    this.#suspend(name, DM.SUSPEND_FLAG);
  }

  /** Lets it go on, if it is still there: its last user may have gone while it was stopped. */
  resume(name: string): void {
    this.#suspend(name, 0);
  }

  #suspend(name: string, flags: number): void {
    const { result } = this.#try(DM.DEV_SUSPEND, name, undefined, flags);
    if (result < 0 && result !== -ENXIO) throw failure(result, DM.DEV_SUSPEND, name);
  }

  /**
   * Tells a target something.
   *
   * @param name - of the device
   * @param message - in the target's words
   * @throws KernelError as the target answers
   */
  message(name: string, message: string): void {
    const data = Buffer.alloc(8 + message.length + 1);
    data.write(message, 8, 'latin1');
    const { result } = this.#try(DM.TARGET_MSG, name, data);
    if (result < 0) throw failure(result, DM.TARGET_MSG, `${name}: ${message}`);
  }

  /** Closes the control device. */
  [Symbol.dispose](): void {
    this.#control.close();
  }

  #load(name: string, { type, sectors, parameters }: DmTarget): void {
    const data = Buffer.alloc(SPEC + ((parameters.length + 8) & ~7));
    data.writeBigUInt64LE(BigInt(sectors), 8);
    data.writeUInt32LE(data.length, 20);
    data.write(type, 24, 'latin1');
    data.write(parameters, SPEC, 'latin1');
    const { result } = this.#try(DM.TABLE_LOAD, name, data, 0, 1);
    if (result >= 0) return;
    const error = failure(result, DM.TABLE_LOAD, `${name}: ${type} ${parameters}`);
    if (error.code !== 'EINVAL') throw error;
    // Of a target that it does not know the kernel says no more than of wrong parameters.
    const reason = `the kernel refused its table; where it does not have the target: modprobe dm-${type}`;
    throw new UnsupportedError(`dm-${type}`, reason, { cause: error });
  }

  #call(nr: number, name: string): Buffer {
    const { result, bytes } = this.#try(nr, name);
    if (result < 0) throw failure(result, nr, name);
    return bytes;
  }

  #try(
    nr: number,
    name: string,
    data: Buffer = Buffer.alloc(0),
    flags = 0,
    targets = 0,
  ): { result: number; bytes: Buffer } {
    const bytes = Buffer.concat([Buffer.alloc(HEADER), data]);
    bytes.writeUInt32LE(4, 0);
    bytes.writeUInt32LE(bytes.length, AT.dataSize);
    bytes.writeUInt32LE(HEADER, AT.dataStart);
    bytes.writeUInt32LE(targets, AT.targets);
    bytes.writeUInt32LE(flags, AT.flags);
    bytes.write(name, AT.name, 'latin1');
    return { result: attempt('ioctl', this.#control, request(nr), bytes), bytes };
  }
}

const ENXIO = 6;

/** _IOWR of the device mapper's. */
function request(nr: number): number {
  return (3 * 2 ** 30 + HEADER * 2 ** 16 + 0xfd00 + nr) >>> 0;
}

function device(bytes: Buffer): MappedDevice {
  const dev = bytes.readUInt32LE(AT.dev);
  return {
    major: (dev >>> 8) & 0xfff,
    minor: (dev & 0xff) | ((dev >>> 12) & 0xfff00),
    open: bytes.readInt32LE(AT.open),
  };
}

function failure(result: number, nr: number, what: string): KernelError {
  const call = Object.keys(DM).find((key) => DM[key as keyof typeof DM] === nr);
  const hints: Record<string, string> = {
    EBUSY: 'the device is in use: something on it is mounted',
    ENOSPC: 'the pool has no room left for its metadata',
  };
  const hint = hints[errnoName(result)];
  return new KernelError(result, { syscall: 'ioctl', call: `ioctl(DM_${call}, ${what})`, ...(hint ? { hint } : {}) });
}
