import type { SparsePart, TarEntry } from './entry.js';
import { ArchiveError } from './error.js';
import { BLOCK, ENTRY_TYPES, isZero, parseHeader, type RawHeader } from './header.js';
import { parseDecimal } from './number.js';
import { type ParsedPax, parsePax, parseTime, paxXattrs } from './pax.js';
import { checkSparse, MapReader, readPairs } from './sparse.js';

/** Who is told what an archive holds, in its order. */
export interface TarHandler {
  /** An entry begins. */
  entry(entry: TarEntry): void;
  /**
   * Bytes of its content. They are gone when this returns: copy what is to stay.
   *
   * @param bytes - at least one
   * @param offset - their place in the file; what is left out of a sparse file is zeros
   */
  data(bytes: Buffer, offset: number): void;
  /** The entry's content is complete. */
  end(): void;
}

/** What an archive may hold at the most. */
export interface TarLimits {
  /** Entries; default no limit. */
  entries?: number;
  /** Bytes of all files, holes included; default no limit. */
  bytes?: number;
  /** Bytes of one extended header or long name; default 1 MiB. */
  header?: number;
}

const SPECIAL_MAX = 1 << 20;
const MAX_ID = 0xfffffffe;
const SLASH = 0x2f;

/** What the next bytes are. */
type State = 'header' | 'special' | 'pairs' | 'map' | 'body' | 'padding' | 'second zero' | 'end';

/**
 * Reads an archive from bytes as they come: ustar, pax, GNU, star and V7 headers, sparse files of every kind. Nothing is waited
 * for and nothing is kept but the header at hand, so that memory is bounded whatever the archive says.
 *
 * Programs disagree about some archives: what one skips another extracts. Those are refused (`ERR_ARCHIVE_AMBIGUOUS`), because what
 * was checked must be what is unpacked. Global extended headers are ignored, as Go's reader does and with it every container engine.
 *
 * @example
 * ```ts
 * import { TarParser, tarEnd, tarHeader } from '@iso/unionfs';
 * const names: string[] = [];
 * const parser = new TarParser({ entry: (entry) => names.push(entry.path.toString()), data: () => {}, end: () => {} });
 * parser.write(tarHeader({ path: Buffer.from('etc/'), type: 'directory', mode: 0o755, uid: 0, gid: 0, size: 0, mtime: 0n }));
 * parser.write(tarEnd());
 * parser.finish();
 * if (names.join() !== 'etc/') throw new Error(names.join());
 * ```
 */
export class TarParser {
  readonly #handler: TarHandler;
  readonly #limits: { entries: number; bytes: number; header: number };
  readonly #block = Buffer.alloc(BLOCK);
  /** Bytes of `#block` that are there. */
  #have = 0;
  #state: State = 'header';
  #offset = 0;
  #entries = 0;
  #bytes = 0;

  /** Bytes of the body, in the archive, that are still to come; and of the padding behind. */
  #left = 0;
  #padding = 0;
  #special: { type: string; parts: Buffer[] } | undefined;
  #pax: ParsedPax | undefined;
  #longName: Buffer | undefined;
  #longLink: Buffer | undefined;

  /** The file at hand: its sparse map with the part and the place in it, or the place alone. */
  #header: RawHeader | undefined;
  #map: MapReader | undefined;
  #sparse: readonly SparsePart[] | undefined;
  #part = 0;
  #place = 0;

  /**
   * @param handler - who is told
   * @param limits - see {@link TarLimits}
   */
  constructor(handler: TarHandler, limits: TarLimits = {}) {
    this.#handler = handler;
    this.#limits = {
      entries: limits.entries ?? Number.POSITIVE_INFINITY,
      bytes: limits.bytes ?? Number.POSITIVE_INFINITY,
      header: limits.header ?? SPECIAL_MAX,
    };
  }

  /** Whether the end of the archive has been seen; what follows it is ignored. */
  get ended(): boolean {
    return this.#state === 'end';
  }

  /** Entries so far. */
  get entries(): number {
    return this.#entries;
  }

  /** Bytes of the file at hand that are still to come, for {@link TarParser.skip}; 0 where all of what comes next counts. */
  get skippable(): number {
    return this.#state === 'body' && this.#place > 0 && !this.#sparse ? this.#left : 0;
  }

  /**
   * Passes over content that nobody wants: the handler is not told of it.
   *
   * @param length - bytes that the next {@link TarParser.write} begins behind; not more than are {@link TarParser.skippable}
   */
  skip(length: number): void {
    if (length > this.skippable) throw new RangeError(`${length} bytes are more than can be skipped`);
    if (length === 0) return;
    this.#left -= length;
    this.#place += length;
    this.#offset += length;
    if (this.#left === 0) this.#bodyDone();
  }

  /**
   * Takes the next bytes of the archive.
   *
   * @param chunk - any number of bytes; nothing of it is kept
   * @throws {@link ArchiveError}; and what the handler throws
   */
  write(chunk: Uint8Array): void {
    const bytes = Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length);
    let at = 0;
    while (at < bytes.length && this.#state !== 'end') {
      if (this.#state === 'body' || this.#state === 'special') {
        const length = Math.min(this.#left, bytes.length - at);
        const part = bytes.subarray(at, at + length);
        if (this.#state === 'body') this.#content(part);
        else this.#special?.parts.push(Buffer.from(part));
        this.#left -= length;
        at += length;
        this.#offset += length;
        if (this.#left === 0) this.#bodyDone();
      } else if (this.#state === 'padding') {
        const length = Math.min(this.#padding, bytes.length - at);
        this.#padding -= length;
        at += length;
        this.#offset += length;
        if (this.#padding === 0) this.#state = 'header';
      } else if (this.#have === 0 && bytes.length - at >= BLOCK) {
        this.#whole(bytes, at);
        at += BLOCK;
      } else {
        const length = bytes.copy(this.#block, this.#have, at, at + BLOCK - this.#have);
        this.#have += length;
        at += length;
        if (this.#have === BLOCK) {
          this.#have = 0;
          this.#whole(this.#block, 0);
        }
      }
    }
  }

  /**
   * Says that no more bytes come.
   *
   * @throws {@link ArchiveError} `ERR_ARCHIVE_TRUNCATED` in the middle of an entry, and where nothing came at all; what pads the last one, and blocks
   * of zeros at the end, may be missing: umoci writes such layers, and readers in Go take them
   */
  finish(): void {
    if (this.#state === 'end' || this.#state === 'second zero') return;
    const waiting = this.#pax || this.#longName || this.#longLink;
    const between = this.#state === 'padding' || (this.#state === 'header' && this.#have === 0);
    if (!waiting && between && this.#offset > 0) return;
    const empty = this.#offset + this.#have === 0;
    const what = empty
      ? 'the archive is empty, not even its end is there'
      : 'the archive ends in the middle of an entry';
    throw new ArchiveError('ERR_ARCHIVE_TRUNCATED', what, { offset: this.#offset });
  }

  /** Takes a block that is no content. */
  #whole(block: Buffer, at: number): void {
    try {
      if (this.#state === 'header') this.#headerBlock(block, at);
      else if (this.#state === 'second zero') {
        if (!isZero(block, at)) throw new ArchiveError('ERR_ARCHIVE_HEADER', 'an entry after a block of zeros');
        this.#state = 'end';
      } else if (this.#state === 'pairs') this.#pairs(block.subarray(at, at + BLOCK));
      else this.#mapBlock(block.subarray(at, at + BLOCK));
    } catch (error) {
      throw this.#located(error);
    }
    this.#offset += BLOCK;
  }

  #headerBlock(block: Buffer, at: number): void {
    if (block[at] === 0 && isZero(block, at)) {
      if (this.#pax || this.#longName || this.#longLink) {
        throw new ArchiveError('ERR_ARCHIVE_TRUNCATED', 'an extended header without an entry');
      }
      this.#state = 'second zero';
      return;
    }
    const header = parseHeader(block, at);
    if (header.size < 0) throw new ArchiveError('ERR_ARCHIVE_HEADER', 'a negative size');
    if (header.special) this.#begin(header);
    else if (header.type === 'V') {
      if (header.size) throw new ArchiveError('ERR_ARCHIVE_AMBIGUOUS', 'a volume label with content');
      this.#forget();
    } else if (header.sparse?.more) {
      this.#header = header;
      this.#state = 'pairs';
    } else this.#startEntry(header);
  }

  /** An extended header or a long name: its size is its own, whatever was said before. */
  #begin(header: { type: string; size: number }): void {
    const { type, size } = header;
    const twice = type === 'x' ? this.#pax : type === 'L' ? this.#longName : type === 'K' ? this.#longLink : undefined;
    if (twice) throw new ArchiveError('ERR_ARCHIVE_AMBIGUOUS', 'two extended headers of one kind for one entry');
    if (size > this.#limits.header) throw new ArchiveError('ERR_ARCHIVE_LIMIT', `an extended header of ${size} bytes`);
    this.#special = { type, parts: [] };
    this.#body('special', size);
  }

  #body(state: 'special' | 'body', size: number): void {
    this.#left = size;
    this.#padding = (BLOCK - (size % BLOCK)) % BLOCK;
    this.#state = state;
    if (size === 0) this.#bodyDone();
  }

  #bodyDone(): void {
    const state = this.#state;
    this.#state = this.#padding ? 'padding' : 'header';
    if (state === 'body') {
      this.#sparse = undefined;
      this.#handler.end();
      return;
    }
    const { type, parts } = this.#special as { type: string; parts: Buffer[] };
    const body = parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
    this.#special = undefined;
    try {
      if (type === 'x') this.#pax = parsePax(body);
      else if (type === 'g') parsePax(body);
      else {
        const end = body.indexOf(0);
        const name = end < 0 ? body : body.subarray(0, end);
        if (name.length === 0) throw new ArchiveError('ERR_ARCHIVE_HEADER', 'a long name without a name');
        if (type === 'L') this.#longName = name;
        else this.#longLink = name;
      }
    } catch (error) {
      throw this.#located(error);
    }
  }

  #pairs(block: Buffer): void {
    const sparse = this.#header?.sparse as NonNullable<RawHeader['sparse']>;
    readPairs(block, 0, 21, sparse.parts);
    if (block[504] === 0) this.#startEntry(this.#header as RawHeader);
  }

  #mapBlock(block: Buffer): void {
    const map = this.#map as MapReader;
    this.#left -= BLOCK;
    if (this.#left < 0) throw new ArchiveError('ERR_ARCHIVE_HEADER', 'a sparse map is longer than its file');
    if (map.block(block)) this.#announce(this.#header as RawHeader, map.parts, this.#left);
  }

  /** All headers of an entry are there, but for a sparse map in its content. */
  #startEntry(header: RawHeader): void {
    const records = this.#pax?.records;
    const size = records?.get('size');
    const stored = size?.length ? parseDecimal(size.toString('latin1'), 'a size') : header.size;
    if (records?.get('GNU.sparse.major')?.toString('latin1') === '1') {
      if (records.get('GNU.sparse.minor')?.toString('latin1') !== '0') {
        throw new ArchiveError('ERR_ARCHIVE_TYPE', 'a sparse format that is not known');
      }
      this.#header = header;
      this.#map = new MapReader();
      this.#left = stored;
      this.#state = 'map';
      if (stored === 0) throw new ArchiveError('ERR_ARCHIVE_HEADER', 'a sparse map is missing');
      return;
    }
    const list = records?.get('GNU.sparse.map');
    if (list) {
      const parts = list.length
        ? list
            .toString('latin1')
            .split(',')
            .map((text) => parseDecimal(text, 'a sparse map'))
        : [];
      return this.#announce(header, parts, stored);
    }
    if (this.#pax?.sparse.length || records?.has('GNU.sparse.numblocks')) {
      const parts = (this.#pax?.sparse ?? []).map((text) => parseDecimal(text, 'a sparse map'));
      return this.#announce(header, parts, stored);
    }
    this.#announce(header, header.sparse?.parts, stored);
  }

  #announce(header: RawHeader, parts: number[] | undefined, stored: number): void {
    const entry = this.#entry(header, stored);
    if (parts) {
      const real =
        this.#pax?.records.get('GNU.sparse.realsize') ??
        this.#pax?.records.get('GNU.sparse.size') ??
        (header.sparse && Buffer.from(String(header.sparse.size)));
      if (!real || entry.type !== 'file') throw new ArchiveError('ERR_ARCHIVE_HEADER', 'a sparse file without a size');
      entry.size = parseDecimal(real.toString('latin1'), 'a size');
      entry.sparse = checkSparse(parts, entry.size, stored);
    }
    if (++this.#entries > this.#limits.entries) {
      throw new ArchiveError('ERR_ARCHIVE_LIMIT', `more than ${this.#limits.entries} entries`);
    }
    this.#bytes += entry.size;
    if (this.#bytes > this.#limits.bytes) {
      throw new ArchiveError('ERR_ARCHIVE_LIMIT', `more than ${this.#limits.bytes} bytes of files`);
    }
    this.#forget();
    this.#sparse = entry.sparse;
    this.#part = 0;
    this.#place = 0;
    this.#handler.entry(entry);
    this.#body('body', entry.type === 'file' ? stored : 0);
  }

  #entry(header: RawHeader, stored: number): TarEntry {
    const type = ENTRY_TYPES[header.type];
    if (!type) {
      throw new ArchiveError('ERR_ARCHIVE_TYPE', `an entry of type ${JSON.stringify(header.type)}`, {
        path: header.name,
      });
    }
    const records = this.#pax?.records;
    const path = this.#name(
      records?.get('GNU.sparse.name') ?? records?.get('path'),
      this.#longName,
      header.name,
      'names',
    );
    const mtime = records?.get('mtime');
    const entry: TarEntry = {
      path,
      type,
      mode: header.mode & 0o7777,
      uid: this.#id(records?.get('uid'), header.uid),
      gid: this.#id(records?.get('gid'), header.gid),
      size: 0,
      mtime: mtime?.length ? parseTime(mtime.toString('latin1')) : BigInt(header.mtime) * 1_000_000_000n,
    };
    if (type === 'file') {
      entry.size = stored;
      // Python tells a directory by the name that stands in the header, others by the one that counts.
      const unclear = header.v7 && header.name.length > 0 && (header.name.at(-1) === SLASH) !== (path.at(-1) === SLASH);
      if (unclear)
        throw new ArchiveError('ERR_ARCHIVE_AMBIGUOUS', 'a file or a directory', { path, offset: this.#offset });
      if (path.at(-1) === SLASH) {
        if (!header.v7 || stored)
          throw new ArchiveError('ERR_ARCHIVE_AMBIGUOUS', 'a file or a directory', { path, offset: this.#offset });
        entry.type = 'directory';
      }
    } else if (stored) {
      // Also of a hard link: GNU tar and libarchive may take what follows for its content.
      throw new ArchiveError('ERR_ARCHIVE_AMBIGUOUS', `a ${type} with a size`, { path, offset: this.#offset });
    }
    if (type === 'link' || type === 'symlink') {
      entry.linkpath = this.#name(records?.get('linkpath'), this.#longLink, header.linkname, 'link names');
    }
    if (type === 'character' || type === 'block') entry.device = { major: header.devmajor, minor: header.devminor };
    const uname = records?.get('uname') ?? header.uname;
    const gname = records?.get('gname') ?? header.gname;
    if (uname.length) entry.uname = uname;
    if (gname.length) entry.gname = gname;
    const xattrs = records && paxXattrs(records);
    if (xattrs) entry.xattrs = xattrs;
    return entry;
  }

  /** A name from one of three places; an empty record takes back what an earlier one said. */
  #name(record: Buffer | undefined, long: Buffer | undefined, short: Buffer, what: string): Buffer {
    if (record?.length && long) {
      throw new ArchiveError('ERR_ARCHIVE_AMBIGUOUS', `two long ${what}, one as GNU and one as pax writes it`, {
        path: record,
      });
    }
    const name = record?.length ? record : (long ?? short);
    if (name.length === 0) throw new ArchiveError('ERR_ARCHIVE_HEADER', 'an entry without a name');
    if (name.includes(0)) throw new ArchiveError('ERR_ARCHIVE_PATH', 'a name with NUL', { path: name });
    return name;
  }

  #id(record: Buffer | undefined, short: number): number {
    const id = record?.length ? parseDecimal(record.toString('latin1'), 'an id') : short;
    if (id < 0 || id > MAX_ID) throw new ArchiveError('ERR_ARCHIVE_HEADER', `not a user or group id: ${id}`);
    return id;
  }

  #forget(): void {
    this.#pax = undefined;
    this.#longName = undefined;
    this.#longLink = undefined;
    this.#header = undefined;
    this.#map = undefined;
  }

  #content(bytes: Buffer): void {
    if (!this.#sparse) {
      this.#handler.data(bytes, this.#place);
      this.#place += bytes.length;
      return;
    }
    for (let at = 0; at < bytes.length; ) {
      const part = this.#sparse[this.#part] as SparsePart;
      const length = Math.min(part.length - this.#place, bytes.length - at);
      this.#handler.data(bytes.subarray(at, at + length), part.offset + this.#place);
      at += length;
      this.#place += length;
      if (this.#place === part.length) {
        this.#part++;
        this.#place = 0;
      }
    }
  }

  #located(error: unknown): unknown {
    if (!(error instanceof ArchiveError) || error.offset !== undefined) return error;
    return new ArchiveError(error.code, error.message, {
      offset: this.#offset,
      cause: error,
    });
  }
}
