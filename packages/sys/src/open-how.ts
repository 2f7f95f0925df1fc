import { layouts } from './raw/layouts.js';

const { size, flags: FLAGS, mode: MODE, resolve: RESOLVE } = layouts.open_how;

/** Few are ever asked for, again and again. */
const known = new Map<string, Buffer>();

/**
 * The argument of openat2(2), struct open_how. The same values give the same bytes: they are not to be written to.
 *
 * @param flags - open(2) flags; with O_CREAT a `mode` too
 * @param resolve - `RESOLVE` flags: how the path may be walked
 * @param mode - of a file that is created
 * @returns 24 bytes
 *
 * @example
 * ```ts
 * import { AT, Fd, O, openHow, RESOLVE, syscall } from '@iso/sys';
 * const how = openHow(O.PATH | O.CLOEXEC, RESOLVE.NO_SYMLINKS);
 * Fd.own(syscall('openat2', AT.FDCWD, '/', how, how.length)).close();
 * ```
 */
export function openHow(flags: number, resolve: number, mode = 0): Buffer {
  const key = `${flags} ${resolve} ${mode}`;
  let how = known.get(key);
  if (!how) {
    how = Buffer.alloc(size);
    how.writeBigUInt64LE(BigInt(flags), FLAGS);
    how.writeBigUInt64LE(BigInt(mode), MODE);
    how.writeBigUInt64LE(BigInt(resolve), RESOLVE);
    known.set(key, how);
  }
  return how;
}
