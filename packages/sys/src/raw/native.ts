import { createRequire } from 'node:module';
import { UnsupportedError } from '../error.js';
import * as arm64 from '../launcher/arm64.js';
import * as x64 from '../launcher/x64.js';

/** The part of koffi that this project uses. Nothing of koffi leaves this file but through these types. */
interface Koffi {
  load(path: null): { func(name: string, result: string, args: string[]): (...args: unknown[]) => unknown };
  view(pointer: bigint, length: number): ArrayBuffer;
  decode(pointer: bigint, type: unknown): (...args: unknown[]) => unknown;
  proto(result: string, args: string[]): unknown;
  address(value: unknown): bigint;
}

/** A word of a system call: a number, or an address as bigint. */
export type Word = number | bigint;

/** The machine code, mapped and callable, with what else comes from koffi. */
export interface Native {
  /** One system call; returns what the kernel returned, a negative error number where it failed. */
  call(nr: number, a0: Word, a1: Word, a2: Word, a3: Word, a4: Word, a5: Word): number | bigint;
  /** Clones and lets the child walk the frame's step table; returns the pid or a negative error number. */
  launch(frame: number): number;
  /** Walks the frame's step table on the calling thread, until a step fails that may not. */
  walk(frame: Word): void;
  /** Address of a buffer's first byte; the caller keeps the buffer alive. */
  address(buffer: Uint8Array): bigint;
  /** A window on memory that JavaScript did not allocate. */
  view(address: number, length: number): ArrayBuffer;
}

const blobs: Partial<Record<string, { code: string; launch: number; walk: number }>> = { x64, arm64 };
const PROT_READ_WRITE = 3;
const PROT_READ_EXEC = 5;
const MAP_PRIVATE_ANONYMOUS = 0x22;

let loaded: Native | undefined;

/**
 * The machine code of this process, mapped at first use.
 *
 * @returns the callable code
 * @throws {@link UnsupportedError} on another platform or architecture, or where executable memory is denied
 */
export function native(): Native {
  loaded ??= load();
  return loaded;
}

function load(): Native {
  const blob = blobs[process.arch];
  if (process.platform !== 'linux' || !blob) {
    throw new UnsupportedError(
      '@iso/sys',
      `it needs Linux on x64 or arm64, this is ${process.platform}-${process.arch}`,
    );
  }
  const koffi = createRequire(import.meta.url)('koffi') as Koffi;
  const libc = koffi.load(null);
  const mmap = libc.func('mmap', 'void *', ['void *', 'size_t', 'int', 'int', 'int', 'int64']);
  const mprotect = libc.func('mprotect', 'int', ['void *', 'size_t', 'int']);

  // Written before it is first executable, never both: W^X, and no stale instruction cache on arm64.
  const bytes = Buffer.from(blob.code, 'hex');
  const page = mmap(null, bytes.length, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0) as bigint;
  if (page > 2n ** 63n) throw new UnsupportedError('@iso/sys', 'the kernel gave no memory for the launcher');
  new Uint8Array(koffi.view(page, bytes.length)).set(bytes);
  if (mprotect(page, bytes.length, PROT_READ_EXEC) !== 0) {
    throw new UnsupportedError(
      '@iso/sys',
      'the kernel denies executable memory to this process (is it confined by an LSM?)',
    );
  }
  const word = 'int64';
  return {
    call: koffi.decode(page, koffi.proto(word, Array(7).fill(word) as string[])) as Native['call'],
    launch: koffi.decode(page + BigInt(blob.launch), koffi.proto(word, [word])) as Native['launch'],
    walk: koffi.decode(page + BigInt(blob.walk), koffi.proto('void', [word])) as Native['walk'],
    address: (buffer) => koffi.address(buffer),
    view: (address, length) => koffi.view(BigInt(address), length),
  };
}
