import { ftruncateSync } from 'node:fs';
import { Fd, KernelError, O, syscall } from '@iso/sys';
import { attachLoop } from '../device/loop.js';
import { DeviceMapper, type MappedDevice } from '../device/mapper.js';
import { DeviceNodes } from '../device/nodes.js';
import { lockNow, unlock } from '../file/lock.js';
import { stat } from '../file/stat.js';

const SECTOR = 512;
/** Of 64 KiB: the smallest, so that a layer shares as much as it can. */
const BLOCK_SECTORS = 128;

/** How large a pool may grow; its files are sparse. */
export interface PoolSize {
  data: number;
  metadata: number;
}

/**
 * A pool of thin volumes in two files of a directory, see the kernel's Documentation/admin-guide/device-mapper/thin-provisioning.rst.
 * Processes share it by its name. Pool and volumes are removed by the kernel as soon as nobody uses them, also when who does is killed.
 */
export class ThinPool implements Disposable {
  readonly nodes = new DeviceNodes();
  readonly #mapper: DeviceMapper;
  readonly #lock: Fd;
  readonly #name: string;
  readonly #device: Fd;

  /**
   * @param directory - where the files are, or are made
   * @param size - how large they may grow
   */
  constructor(directory: Fd, size: PoolSize) {
    const opened: Disposable[] = [this.nodes];
    try {
      this.#mapper = new DeviceMapper(this.nodes);
      opened.push(this.#mapper);
      const { identity } = stat(directory.number, null);
      this.#name = `iso-${identity.replace(/[^0-9]+/g, '-')}`;
      this.#lock = openIn(directory, '.lock');
      opened.push(this.#lock);
      this.#device = this.alone(() => this.#open(directory, size));
    } catch (error) {
      for (const one of opened.reverse()) one[Symbol.dispose]();
      throw error;
    }
  }

  /** Runs something while no other process, nor driver, does the same on this pool. */
  alone<T>(action: () => T): T {
    lockNow(this.#lock);
    try {
      return action();
    } finally {
      unlock(this.#lock);
    }
  }

  /** Makes a volume with nothing in it. */
  create(volume: number): void {
    this.#mapper.message(this.#name, `create_thin ${volume}`);
  }

  /** Makes a volume that begins as another is now; of one in use, what is under way is written first. */
  snapshot(volume: number, origin: number): void {
    const name = this.#volumeName(origin);
    this.#mapper.suspend(name);
    try {
      this.#mapper.message(this.#name, `create_snap ${volume} ${origin}`);
    } finally {
      this.#mapper.resume(name);
    }
  }

  /**
   * Deletes a volume.
   *
   * @param volume - its number
   * @throws KernelError `EBUSY` where it is mounted
   */
  delete(volume: number): void {
    this.#patiently(() => {
      try {
        this.#mapper.message(this.#name, `delete ${volume}`);
      } catch (error) {
        // There is none of that number any more.
        if (!KernelError.is(error, 'ENODATA')) throw error;
      }
    });
  }

  /**
   * A volume as a block device, while something uses it.
   *
   * @param volume - its number
   * @param bytes - its size
   * @param use - opens or mounts the device of that path
   * @returns what that returned
   */
  with<T>(volume: number, bytes: number, use: (path: string) => T): T {
    return this.#patiently(() => {
      const name = this.#volumeName(volume);
      const { major, minor } = this.#mapper.status(name) ?? this.#activate(name, volume, bytes);
      // From now on it goes with its last user.
      using _ = this.#hold(name, major, minor);
      return use(this.nodes.path('block', major, minor));
    });
  }

  /** The pool goes with its last user. */
  [Symbol.dispose](): void {
    for (const one of [this.#device, this.#lock, this.#mapper, this.nodes]) one[Symbol.dispose]();
  }

  #volumeName(volume: number): string {
    return `${this.#name}-${volume}`;
  }

  #activate(name: string, volume: number, bytes: number): MappedDevice {
    const { major, minor } = this.#mapper.status(this.#name) as MappedDevice;
    const parameters = `${major}:${minor} ${volume}`;
    return this.#mapper.create(name, { type: 'thin', sectors: Math.floor(bytes / SECTOR), parameters });
  }

  #hold(name: string, major: number, minor: number): Fd {
    const fd = this.nodes.open('block', major, minor, O.RDONLY);
    this.#mapper.removeWhenUnused(name);
    return fd;
  }

  #open(directory: Fd, size: PoolSize): Fd {
    return this.#patiently(() => {
      const there = this.#mapper.status(this.#name) ?? this.#assemble(directory, size);
      return this.#hold(this.#name, there.major, there.minor);
    });
  }

  #assemble(directory: Fd, size: PoolSize): MappedDevice {
    const loop = (file: string, bytes: number) => {
      using backing = openIn(directory, file);
      if (stat(backing.number, null).size === 0) ftruncateSync(backing.number, bytes);
      return attachLoop(this.nodes, backing, `${this.#name}${file}`);
    };
    const metadata = loop('.metadata', size.metadata);
    try {
      const data = loop('.data', size.data);
      try {
        using backing = openIn(directory, '.data');
        const sectors = Math.floor(stat(backing.number, null).size / SECTOR / BLOCK_SECTORS) * BLOCK_SECTORS;
        const devices = `${metadata.major}:${metadata.minor} ${data.major}:${data.minor}`;
        // Who writes to a full pool is told so, instead of waiting for somebody to enlarge it.
        const parameters = `${devices} ${BLOCK_SECTORS} 0 2 skip_block_zeroing error_if_no_space`;
        return this.#mapper.create(this.#name, { type: 'thin-pool', sectors, parameters });
      } finally {
        data.fd.close();
      }
    } finally {
      metadata.fd.close();
    }
  }

  /** The kernel removes devices a moment after their last user has gone. */
  #patiently<T>(action: () => T): T {
    for (let i = 0; ; i++) {
      try {
        return action();
      } catch (error) {
        if (i === TRIES || !KernelError.is(error, 'EBUSY', 'ENXIO', 'ENODEV')) throw error;
        Atomics.wait(clock, 0, 0, WAIT_MS);
      }
    }
  }
}

const TRIES = 100;
const WAIT_MS = 10;
const clock = new Int32Array(new SharedArrayBuffer(4));

function openIn(directory: Fd, name: string): Fd {
  return Fd.own(syscall('openat', directory, name, O.RDWR | O.CREAT | O.CLOEXEC, 0o600));
}
