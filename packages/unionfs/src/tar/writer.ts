import { invalid } from '@iso/sys';
import type { EntryType, TarEntry } from './entry.js';
import { BLOCK, checksum, FIELD } from './header.js';
import { fitsOctal, writeOctal } from './number.js';
import { paxRecord, timeText, xattrKey } from './pax.js';

const TYPES: Readonly<Record<EntryType, string>> = {
  file: '0',
  link: '1',
  symlink: '2',
  character: '3',
  block: '4',
  directory: '5',
  fifo: '6',
};
const SECOND = 1_000_000_000n;

/**
 * The header of an entry: one ustar block, and before it an extended one (pax) where the entry has what ustar cannot say: long
 * names, big ids and sizes, fractions of seconds, attributes. The same entry always gives the same bytes. Sparse files are
 * written with their zeros.
 *
 * @param entry - what to write
 * @returns whole blocks; of a file its content follows, and {@link tarPadding}
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what no archive can hold
 *
 * @example
 * ```ts
 * import { tarHeader } from '@iso/unionfs';
 * const header = tarHeader({ path: Buffer.from('a'), type: 'file', mode: 0o644, uid: 0, gid: 0, size: 1, mtime: 1n });
 * if (header.length !== 3 * 512) throw new Error('a nanosecond needs an extended header');
 * ```
 */
export function tarHeader(entry: TarEntry): Buffer {
  check(entry);
  const block = Buffer.alloc(BLOCK);
  const pax = new Map<string, Uint8Array>();
  const linkpath = entry.linkpath ?? EMPTY;
  writeName(block, entry.path, pax);
  if (linkpath.length <= FIELD.linkname.length) block.set(linkpath, FIELD.linkname.at);
  else {
    pax.set('linkpath', linkpath);
    block.set(linkpath.subarray(0, FIELD.linkname.length), FIELD.linkname.at);
  }
  const number = (name: 'uid' | 'gid' | 'size' | 'mtime', value: number) => {
    const fits = fitsOctal(value, FIELD[name].length);
    if (!fits && name !== 'mtime') pax.set(name, Buffer.from(String(value)));
    writeOctal(block, FIELD[name].at, FIELD[name].length, fits ? value : 0);
  };
  writeOctal(block, FIELD.mode.at, FIELD.mode.length, entry.mode);
  number('uid', entry.uid);
  number('gid', entry.gid);
  number('size', entry.type === 'file' ? entry.size : 0);
  let seconds = Number(entry.mtime / SECOND);
  if (entry.mtime % SECOND !== 0n || !fitsOctal(seconds, FIELD.mtime.length)) {
    pax.set('mtime', Buffer.from(timeText(entry.mtime)));
    if (entry.mtime < 0n) seconds = 0;
  }
  number('mtime', seconds);
  block.write(TYPES[entry.type], FIELD.type, 'latin1');
  block.write('ustar\x0000', FIELD.magic, 'latin1');
  writeOwner(block, 'uname', entry.uname, pax);
  writeOwner(block, 'gname', entry.gname, pax);
  // Left empty where it is no device: so does Go, and so layers of ours look like everybody's.
  if (entry.device) {
    writeOctal(block, FIELD.devmajor.at, FIELD.devmajor.length, entry.device.major);
    writeOctal(block, FIELD.devminor.at, FIELD.devminor.length, entry.device.minor);
  }
  for (const [name, value] of entry.xattrs ?? []) pax.set(xattrKey(name), value);
  seal(block);
  if (pax.size === 0) return block;
  // Sorted, so that the order in which a file system lists attributes does not show.
  const records = [...pax].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, value]) => paxRecord(key, value));
  const body = Buffer.concat(records);
  return Buffer.concat([paxHeader(entry.path, body.length), body, tarPadding(body.length), block]);
}

/**
 * The zeros that follow a file's content.
 *
 * @param size - of the content
 * @returns 0 to 511 bytes
 */
export function tarPadding(size: number): Buffer {
  return ZEROS.subarray(0, (BLOCK - (size % BLOCK)) % BLOCK);
}

/**
 * The end of an archive.
 *
 * @returns two blocks of zeros
 */
export function tarEnd(): Buffer {
  return ZEROS;
}

const EMPTY = Buffer.alloc(0);
const ZEROS = Buffer.alloc(2 * BLOCK);

function check(entry: TarEntry): void {
  const { path, type, linkpath, mode, device } = entry;
  if (path.length === 0 || path.includes(0)) throw invalid('an entry needs a name without NUL');
  if ((type === 'link' || type === 'symlink') && !linkpath?.length) throw invalid('a link needs what it names');
  if (linkpath?.includes(0)) throw invalid('a link that names NUL');
  if (!Number.isInteger(mode) || mode < 0 || mode > 0o7777) throw invalid(`not permission bits: ${mode}`);
  for (const id of [entry.uid, entry.gid]) {
    if (!Number.isInteger(id) || id < 0 || id > 0xfffffffe) throw invalid(`not a user or group id: ${id}`);
  }
  if (!Number.isSafeInteger(entry.size) || entry.size < 0) throw invalid(`not a size: ${entry.size}`);
  if ((type === 'character' || type === 'block') !== (device !== undefined)) {
    throw invalid('devices, and nothing else, have a device number');
  }
  if (device && !(fitsOctal(device.major, 8) && fitsOctal(device.minor, 8)))
    throw invalid('a device number is too big');
  for (const [name] of entry.xattrs ?? []) {
    if (name === '' || /[\0=]|[^\0-\xff]/.test(name)) {
      throw invalid(`an extended attribute's name cannot be archived: ${JSON.stringify(name)}`);
    }
  }
}

/** A name that fits goes to the name field, or at a slash to prefix and name; any other to an extended header. */
function writeName(block: Buffer, path: Buffer, pax: Map<string, Uint8Array>): void {
  if (path.length <= FIELD.name.length) {
    block.set(path, FIELD.name.at);
    return;
  }
  // A directory's final slash stays with its name.
  const slash = path.subarray(0, Math.min(FIELD.prefix.length + 1, path.length - 1)).lastIndexOf(0x2f);
  const ascii = path.every((byte) => byte < 0x80);
  if (ascii && slash > 0 && path.length - slash - 1 <= FIELD.name.length) {
    block.set(path.subarray(0, slash), FIELD.prefix.at);
    block.set(path.subarray(slash + 1), FIELD.name.at);
    return;
  }
  pax.set('path', path);
  block.set(path.subarray(0, FIELD.name.length), FIELD.name.at);
}

function writeOwner(block: Buffer, name: 'uname' | 'gname', value: Buffer | undefined, pax: Map<string, Uint8Array>) {
  if (!value) return;
  if (value.length < FIELD[name].length) block.set(value, FIELD[name].at);
  else pax.set(name, value);
}

function paxHeader(path: Buffer, size: number): Buffer {
  const block = Buffer.alloc(BLOCK);
  const bare = path.at(-1) === 0x2f ? path.subarray(0, -1) : path;
  const name = bare.subarray(bare.lastIndexOf(0x2f) + 1).subarray(0, 80);
  block.set(Buffer.concat([Buffer.from('PaxHeaders.0/'), name]), FIELD.name.at);
  writeOctal(block, FIELD.mode.at, FIELD.mode.length, 0o644);
  for (const field of [FIELD.uid, FIELD.gid, FIELD.mtime]) writeOctal(block, field.at, field.length, 0);
  writeOctal(block, FIELD.size.at, FIELD.size.length, size);
  block.write('x', FIELD.type, 'latin1');
  block.write('ustar\x0000', FIELD.magic, 'latin1');
  seal(block);
  return block;
}

function seal(block: Buffer): void {
  block.write(`${checksum(block, 0).toString(8).padStart(6, '0')}\0 `, FIELD.checksum.at, 'latin1');
}
