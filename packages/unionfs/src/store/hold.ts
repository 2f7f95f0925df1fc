import { attempt, Fd, O } from '@iso/sys';
import { check, ERRNO, tryOpen, tryUnlink } from '../file/call.js';
import { readDirectory } from '../file/directory.js';

/** fcntl commands and lock types for open file descriptions, asm-generic/fcntl.h. */
const F_OFD_SETLK = 37;
const TYPE = { shared: 0, exclusive: 1, none: 2 } as const;
const MODE = 0o600;

const MOUNTED = 0x6d;
const FREE = 0x2d;

/** Which byte of a layer's file stands for what. */
const BYTE = { use: 0, write: 1 } as const;

/**
 * Who uses a layer. Each has a file; a byte of it is locked by all who use the layer, or by the one who takes it away, and another
 * byte by the one who writes it. The locks belong to the open file: they last until its last descriptor is closed, in whatever
 * process, and the kernel drops them when that dies.
 */
export class Hold implements Disposable {
  readonly fd: Fd;

  constructor(fd: Fd) {
    this.fd = fd;
  }

  /**
   * Takes one of the locks, without waiting.
   *
   * @param what - `use` by all who need that the layer stays, `write` by the one who changes it
   * @param type - `shared`, `exclusive`; `none` lets go
   * @returns whether it could
   */
  lock(what: keyof typeof BYTE, type: keyof typeof TYPE): boolean {
    const flock = Buffer.alloc(32);
    flock.writeInt16LE(TYPE[type], 0);
    flock.writeBigInt64LE(BigInt(BYTE[what]), 8);
    flock.writeBigInt64LE(1n, 16);
    const result = attempt('fcntl', this.fd, F_OFD_SETLK, flock);
    if (result === -ERRNO.EAGAIN || result === -13) return false;
    check(result, 'fcntl');
    return true;
  }

  /**
   * Whether somebody had mounted the layer and did not say that it is over: it may be attached somewhere although nobody holds it.
   */
  get marked(): boolean {
    const byte = Buffer.alloc(1);
    return attempt('pread64', this.fd, byte, 1, 0) === 1 && byte[0] === MOUNTED;
  }

  /** Notes that the layer is being mounted, or that it is not mounted any more. */
  mark(mounted: boolean): void {
    check(attempt('pwrite64', this.fd, Buffer.of(mounted ? MOUNTED : FREE), 1, 0), 'pwrite64');
  }

  /** Notes that it is mounted no more, if nobody else uses it. */
  settle(): void {
    if (!this.lock('use', 'exclusive')) return;
    // On a full disk the mark may stay: whoever comes next looks for the mount, and finds none.
    attempt('pwrite64', this.fd, Buffer.of(FREE), 1, 0);
    this.lock('use', 'shared');
  }

  /** Lets go of all. */
  close(): void {
    this.fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** The files of {@link Hold}, which are also the list of all layers that there may be: a layer's file is there before it and after it. */
export class Holds implements Disposable {
  readonly #directory: Fd;

  /** @param directory - of the files; becomes this object's */
  constructor(directory: Fd) {
    this.#directory = directory;
  }

  /** A new layer's. */
  create(id: string): Hold {
    const name = Buffer.from(id);
    const flags = O.RDWR | O.CREAT | O.EXCL;
    const hold = new Hold(Fd.own(check(tryOpen(this.#directory.number, name, flags, MODE), 'openat', name)));
    try {
      // It must have its block before the disk is full.
      hold.mark(false);
      return hold;
    } catch (error) {
      this.remove(id);
      hold.close();
      throw error;
    }
  }

  /** A layer's, or undefined where there is none of that id. */
  open(id: string): Hold | undefined {
    const name = Buffer.from(id);
    const fd = tryOpen(this.#directory.number, name, O.RDWR);
    if (fd === -ERRNO.ENOENT) return undefined;
    return new Hold(Fd.own(check(fd, 'openat', name)));
  }

  /** Forgets a layer that is gone. */
  remove(id: string): void {
    const result = tryUnlink(this.#directory.number, Buffer.from(id));
    if (result !== -ERRNO.ENOENT) check(result, 'unlinkat', Buffer.from(id));
  }

  /** Ids of all. */
  list(): string[] {
    attempt('lseek', this.#directory, 0, 0);
    return readDirectory(this.#directory.number).map(({ name }) => name.toString('latin1'));
  }

  [Symbol.dispose](): void {
    this.#directory.close();
  }
}
