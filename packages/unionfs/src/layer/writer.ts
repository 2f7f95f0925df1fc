import { attempt, O } from '@iso/sys';
import { check, close, ERRNO, open } from '../file/call.js';
import type { TarEntry } from '../tar/entry.js';
import { ArchiveError } from '../tar/error.js';
import { tarEnd, tarHeader, tarPadding } from '../tar/writer.js';
import { type DescribeSettings, describe, type Place } from './describe.js';
import { splitPath } from './path.js';
import { whiteoutMeaning, whiteoutName } from './whiteout.js';

/** Something that was left out of an archive: a socket, which none can hold. */
export interface PackWarning {
  path: Buffer;
  message: string;
}

const CHUNK = 512 * 1024;

/** Writes files as a layer's archive: hard links as links, whiteouts as empty files, nothing that differs from run to run. */
export class LayerWriter {
  readonly #settings: DescribeSettings;
  readonly #layer: boolean;
  readonly #warn: (warning: PackWarning) => void;
  /** First names of files that have several. */
  readonly #linked = new Map<string, Buffer>();

  /**
   * @param settings - how files are described
   * @param options - `layer`: names like whiteouts are refused; `warn`: told what is left out
   */
  constructor(settings: DescribeSettings, options: { layer: boolean; warn?: (warning: PackWarning) => void }) {
    this.#settings = settings;
    this.#layer = options.layer;
    this.#warn = options.warn ?? (() => {});
  }

  /**
   * One file.
   *
   * @param place - where it lies
   * @param path - its name in the archive, without a slash at the end
   * @returns its bytes; each is good until the next one is asked for
   * @throws ArchiveError `ERR_ARCHIVE_WHITEOUT` for a file in a layer whose name would hide another
   */
  *file(place: Place, path: Buffer): Generator<Buffer, void, undefined> {
    const { stat } = place;
    if (this.#layer && whiteoutMeaning(splitPath(path).base).kind !== 'plain') {
      throw new ArchiveError('ERR_ARCHIVE_WHITEOUT', 'a file whose name is a whiteout cannot be in a layer', { path });
    }
    const entry = describe(place, path, this.#settings);
    if (!entry) {
      this.#warn({ path, message: 'a socket was left out' });
      return;
    }
    if (stat.links > 1 && stat.type !== 'directory') {
      const first = this.#linked.get(stat.identity);
      if (first) {
        const { xattrs: _, device: __, ...rest } = entry;
        yield tarHeader({ ...rest, type: 'link', size: 0, linkpath: first });
        return;
      }
      this.#linked.set(stat.identity, path);
    }
    yield tarHeader(entry);
    if (entry.type === 'file' && entry.size) yield* content(place, entry);
  }

  /** A whiteout of a name. */
  whiteout(path: Buffer): Buffer {
    const { parent, base } = splitPath(path);
    if (whiteoutMeaning(base).kind !== 'plain') {
      throw new ArchiveError('ERR_ARCHIVE_WHITEOUT', 'a file whose name is a whiteout cannot be hidden', { path });
    }
    const name = whiteoutName(base);
    return tarHeader({
      path: parent.length ? Buffer.concat([parent, SLASH, name]) : name,
      type: 'file',
      mode: 0,
      uid: 0,
      gid: 0,
      size: 0,
      mtime: 0n,
    });
  }

  /** The archive's end. */
  end(): Buffer {
    return tarEnd();
  }
}

const SLASH = Buffer.from('/');

function* content(place: Place, entry: TarEntry): Generator<Buffer, void, undefined> {
  const fd = open(place.directory, place.name, O.RDONLY | O.NONBLOCK);
  try {
    // A chunk is in use until the next one is asked for, maybe longer behind a compressor.
    for (let left = entry.size; left > 0; ) {
      const buffer = Buffer.allocUnsafeSlow(Math.min(CHUNK, left));
      const length = attempt('read', fd, buffer, buffer.length);
      if (length === -ERRNO.EINTR) continue;
      if (check(length, 'read', entry.path) === 0) {
        throw new ArchiveError('ERR_ARCHIVE_TRUNCATED', 'a file shrank while it was read', { path: entry.path });
      }
      left -= length;
      yield buffer.subarray(0, length);
    }
  } finally {
    close(fd);
  }
  if (entry.size % 512) yield tarPadding(entry.size);
}
