import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, renameSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { MountTree } from '@iso/mounts';
import { Fd, KernelError, UnsupportedError } from '@iso/sys';
import { ERRNO } from '../file/call.js';
import type { Driver } from './driver.js';
import { checkId } from './layers.js';
import { findProgram } from './program.js';
import { ThinPool } from './thin-pool.js';

/** How the driver of the device mapper keeps layers. */
export interface DevicemapperOptions {
  /** Bytes that all layers together may take; default 100 GiB, in a sparse file. */
  poolSize?: number;
  /** Bytes of the pool's book-keeping; default 2 GiB, in a sparse file. */
  metadataSize?: number;
  /** Bytes that a layer may take with all below it; default 10 GiB. All layers of a pool have that of its first. */
  layerSize?: number;
  /** File system of layers; default ext4. */
  filesystem?: 'ext4' | 'xfs';
}

const GIB = 2 ** 30;
const BASE = '.base';
const DEBIAN = { ext4: 'e2fsprogs', xfs: 'xfsprogs' } as const;

/**
 * The driver of the device mapper's thin volumes: a layer is a volume with a file system, a snapshot of the one below it, which shares
 * its blocks. Works on every file system; pool and volumes are files and devices of their own, gone when nobody uses them.
 *
 * Needs CAP_SYS_ADMIN and CAP_MKNOD, the kernel's `dm-thin-pool` and `loop`, and the program `mkfs` once for each pool.
 *
 * @param root - directory of its layers; exists
 * @param options - sizes
 * @returns the driver; dispose it to unmount what `directory()` and `diff()` show
 * @throws UnsupportedError where the kernel has no device mapper, no thin pools, no loop devices, or `mkfs` is missing
 */
export function devicemapper(root: string | Fd, options: DevicemapperOptions = {}): Driver & Disposable {
  const { poolSize = 100 * GIB, metadataSize = 2 * GIB, layerSize = 10 * GIB, filesystem = 'ext4' } = options;
  const directory = Fd.open(typeof root === 'string' ? root : `/proc/self/fd/${root.number}`, { directory: true });
  try {
    return new Devicemapper(directory, new ThinPool(directory, { data: poolSize, metadata: metadataSize }), {
      bytes: layerSize,
      filesystem,
    });
  } catch (error) {
    directory.close();
    throw error;
  }
}

/** What is known of a layer. */
interface Volume {
  number: number;
  bytes: number;
  filesystem: 'ext4' | 'xfs';
}

class Devicemapper implements Driver, Disposable {
  readonly name = 'devicemapper';
  readonly format = 'plain';
  readonly #root: Fd;
  readonly #pool: ThinPool;
  readonly #fresh: Omit<Volume, 'number'>;
  /** Mounts that paths were given out of. */
  readonly #shown = new Map<string, MountTree>();

  constructor(root: Fd, pool: ThinPool, fresh: Omit<Volume, 'number'>) {
    this.#root = root;
    this.#pool = pool;
    this.#fresh = fresh;
  }

  create(id: string, [parent]: readonly string[]): void {
    this.#pool.alone(() => {
      if (this.#find(checkId(id))) {
        throw new KernelError(ERRNO.EEXIST, { syscall: 'open', path: id, hint: 'there is a layer of that id' });
      }
      this.#derive(id, parent === undefined ? (this.#find(BASE) ?? this.#makeBase()) : this.#get(parent));
    });
  }

  directory(id: string): string {
    return this.#show(id, false);
  }

  open(id: string, _parents: readonly string[], { readonly = false }: { readonly?: boolean } = {}): Fd {
    return this.#mount(id, readonly).fd;
  }

  diff(id: string, [parent]: readonly string[]): { after: string; before?: string } {
    return { after: this.#show(id, true), ...(parent ? { before: this.#show(parent, true) } : {}) };
  }

  release(id: string): void {
    for (const readonly of [true, false]) {
      const key = keyOf(id, readonly);
      this.#shown.get(key)?.close();
      this.#shown.delete(key);
    }
  }

  remove(id: string): void {
    this.release(checkId(id));
    this.#pool.alone(() => {
      const volume = this.#find(id);
      if (!volume) return;
      this.#pool.delete(volume.number);
      rmSync(this.#record(id));
    });
  }

  [Symbol.dispose](): void {
    for (const mount of this.#shown.values()) mount.close();
    this.#shown.clear();
    this.#pool[Symbol.dispose]();
    this.#root.close();
  }

  #record(id: string): string {
    return `/proc/self/fd/${this.#root.number}/${id}`;
  }

  #find(id: string): Volume | undefined {
    try {
      return JSON.parse(readFileSync(this.#record(id), 'utf8')) as Volume;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  #get(id: string): Volume {
    const volume = this.#find(checkId(id));
    if (volume) return volume;
    throw new KernelError(ERRNO.ENOENT, { syscall: 'open', path: id, hint: 'there is no layer of that id' });
  }

  /** A volume from another; its record is there when the volume is. */
  #derive(id: string, origin: Volume): void {
    const volume = { ...origin, number: this.#freeNumber() };
    this.#pool.snapshot(volume.number, origin.number);
    this.#write(id, volume);
  }

  #write(id: string, volume: Volume): void {
    try {
      writeFileSync(this.#record(`.new-${id}`), JSON.stringify(volume), { flush: true });
      renameSync(this.#record(`.new-${id}`), this.#record(id));
    } catch (error) {
      this.#pool.delete(volume.number);
      throw error;
    }
  }

  /** Of what was killed before it had a record, the volume is there and the number free: it is taken again. */
  #freeNumber(): number {
    const names = readdirSync(`/proc/self/fd/${this.#root.number}`).filter((name) => /^(\w|\.base$)/.test(name));
    const taken = new Set(names.map((name) => this.#find(name)?.number));
    let number = 1;
    while (taken.has(number)) number++;
    this.#pool.delete(number);
    return number;
  }

  /** The empty file system that all lowest layers begin as. */
  #makeBase(): Volume {
    const volume = { ...this.#fresh, number: this.#freeNumber() };
    const { number, bytes, filesystem } = volume;
    const program = findProgram(`mkfs.${filesystem}`, DEBIAN[filesystem]);
    this.#pool.create(number);
    try {
      this.#pool.with(number, bytes, (path) => {
        const { status, stderr } = spawnSync(program, ['-q', path], { encoding: 'utf8' });
        if (status !== 0) throw new UnsupportedError(`mkfs.${filesystem}`, `it failed: ${stderr.trim()}`);
      });
      using mount = this.#mountVolume(volume, false);
      if (filesystem === 'ext4') rmdirSync(`/proc/self/fd/${mount.fd.number}/lost+found`);
    } catch (error) {
      this.#pool.delete(number);
      throw error;
    }
    this.#write(BASE, volume);
    return volume;
  }

  #show(id: string, readonly: boolean): string {
    const key = keyOf(id, readonly);
    let mount = this.#shown.get(key);
    if (!mount) {
      mount = this.#mount(id, readonly);
      this.#shown.set(key, mount);
    }
    return `/proc/self/fd/${mount.fd.number}`;
  }

  #mount(id: string, readonly: boolean): MountTree {
    return this.#pool.alone(() => this.#mountVolume(this.#get(id), readonly));
  }

  #mountVolume({ number, bytes, filesystem }: Volume, readonly: boolean): MountTree {
    return this.#pool.with(number, bytes, (source) =>
      MountTree.create(filesystem, {
        source,
        readonly,
        atime: readonly ? 'noatime' : 'relatime',
        // Snapshots have the identity of what they were made from.
        ...(filesystem === 'xfs' ? { parameters: { nouuid: true } } : {}),
      }),
    );
  }
}

function keyOf(id: string, readonly: boolean): string {
  return `${readonly ? 'read' : 'write'} ${checkId(id)}`;
}
