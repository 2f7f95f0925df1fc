import type { FileHandle } from 'node:fs/promises';
import { open, stat, unlink } from 'node:fs/promises';
import { decompress, detectCompression } from '../compression/compression.js';
import { ImageError } from '../content/error.js';
import { kernel } from '../file/node.js';
import { cleanPath } from '../layer/path.js';
import { ArchiveError } from '../tar/error.js';
import { type TarLimits, TarParser } from '../tar/parser.js';

/** Something of an archive: content by its place in the file, or a link to another name. */
type Member = { at: number; size: number } | { link: string };

/** How an {@link ArchiveFile} is read. */
export interface ArchiveOptions {
  /** Against bombs; `archive` is the most bytes of the uncompressed archive, default 1 TiB. */
  limits?: (TarLimits & { archive?: number }) | undefined;
  signal?: AbortSignal | undefined;
}

/** An archive of images has few names; one with more is a root file system. */
const NAMES_MAX = 200_000;
const CHUNK = 1 << 20;
/** Links that lead to one another. */
const LINKS_MAX = 40;
const TERA = 2 ** 40;

/**
 * A tar archive whose parts are read in any order. It is walked once, as a stream; of each file its place is kept. Names are looked up
 * in that list alone: no file system takes part, so no link and no name leads out.
 */
export class ArchiveFile implements AsyncDisposable {
  readonly #file: FileHandle;
  readonly #members = new Map<string, Member>();
  /** Names with different content: which one counts depends on the program. */
  readonly #twice = new Set<string>();
  #overflow = false;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  /**
   * Reads what is in an archive.
   *
   * @param path - of a file, compressed or not
   * @param spool - path of a new file for the uncompressed bytes of a compressed archive; it is unlinked at once
   * @param options - see {@link ArchiveOptions}
   * @returns the archive
   * @throws ArchiveError for what is no archive; KernelError; the signal's reason
   */
  static async open(path: string, spool: string, options: ArchiveOptions = {}): Promise<ArchiveFile> {
    // Before it is opened: of a FIFO that waits for a writer.
    if (!(await kernel(stat(path))).isFile()) throw new ImageError('badArchive', `no file: ${path}`, { subject: path });
    let file = await kernel(open(path));
    try {
      const head = await bytesAt(file, 0, 6);
      if (detectCompression(head) !== 'none') {
        const plain = await uncompressed(file, spool, options);
        await file.close();
        file = plain;
      }
      const archive = new ArchiveFile(file);
      await archive.#walk(options);
      return archive;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Whether there is a file of that name, followed through links. */
  has(name: string): boolean {
    return !this.#overflow && this.#resolve(name, 0) !== undefined;
  }

  /**
   * A small file.
   *
   * @param name - its name
   * @param limit - most bytes
   * @returns its content
   * @throws {@link ImageError} `notFound`, `tooLarge`, `ambiguous`
   */
  async read(name: string, limit: number): Promise<Buffer> {
    const { at, size } = this.#find(name);
    if (size > limit) throw new ImageError('tooLarge', `${name} has ${size} bytes, ${limit} are allowed`);
    return await bytesAt(this.#file, at, size);
  }

  /**
   * Size of a file.
   *
   * @param name - its name
   * @returns bytes
   */
  size(name: string): number {
    return this.#find(name).size;
  }

  /**
   * The content of a file.
   *
   * @param name - its name
   * @param options - `signal` gives up
   * @returns pieces
   */
  async *stream(
    name: string,
    options: { signal?: AbortSignal | undefined } = {},
  ): AsyncGenerator<Buffer, void, undefined> {
    const { at, size } = this.#find(name);
    const read = (done: number) => {
      const bytes = bytesAt(this.#file, at + done, Math.min(CHUNK, size - done));
      bytes.catch(() => {});
      return bytes;
    };
    // One piece is read while the one before is in use.
    let next = size > 0 ? read(0) : undefined;
    try {
      for (let done = 0; next; ) {
        options.signal?.throwIfAborted();
        const bytes = await next;
        if (bytes.length === 0) throw new ArchiveError('ERR_ARCHIVE_TRUNCATED', 'the archive shrank while it was read');
        done += bytes.length;
        next = done < size ? read(done) : undefined;
        yield bytes;
      }
    } finally {
      // The file must not be closed under it.
      await next?.catch(() => {});
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }

  async #walk({ limits = {}, signal }: ArchiveOptions): Promise<void> {
    let chunk: Buffer = Buffer.alloc(0);
    let start = 0;
    const { size: end } = await kernel(this.#file.stat());
    let current: { name: string; at: number; size: number } | undefined;
    const parser = new TarParser(
      {
        entry: ({ path, type, size, linkpath, sparse }) => {
          current = undefined;
          const name = cleanPath(path).toString('latin1');
          if (type === 'file') {
            if (size === 0) this.#add(name, { at: 0, size: 0 });
            else if (!sparse) current = { name, at: -1, size };
            else this.#add(name, { link: name });
          } else if (type === 'symlink')
            this.#add(name, { link: besides(name, (linkpath as Buffer).toString('latin1')) });
          else if (type === 'link') this.#add(name, { link: `/${(linkpath as Buffer).toString('latin1')}` });
        },
        data: (bytes, offset) => {
          // The first piece tells where the content begins: it is a part of the chunk.
          if (!current || offset !== 0) return;
          const at = start + (bytes.byteOffset - chunk.byteOffset);
          this.#add(current.name, { at, size: current.size });
        },
        end: () => {},
      },
      { entries: 10_000_000, bytes: TERA, ...limits },
    );
    for (;;) {
      signal?.throwIfAborted();
      chunk = await bytesAt(this.#file, start, CHUNK);
      if (chunk.length === 0) break;
      parser.write(chunk);
      start += chunk.length;
      if (parser.ended) break;
      // What is in a blob is of no interest yet, and most of the archive.
      const skipped = Math.min(parser.skippable, Math.max(0, end - start));
      if (skipped < CHUNK) continue;
      parser.skip(skipped);
      start += skipped;
    }
    parser.finish();
  }

  #add(name: string, member: Member): void {
    const other = this.#members.get(name);
    if (other && !('link' in other && 'link' in member && other.link === member.link)) this.#twice.add(name);
    if (this.#members.size >= NAMES_MAX) this.#overflow = true;
    else this.#members.set(name, member);
  }

  #find(name: string): { at: number; size: number } {
    const found = this.#resolve(name, 0);
    if (found) return found;
    throw new ImageError('notFound', `the archive has no file ${JSON.stringify(name.slice(0, 300))}`, {
      subject: name,
    });
  }

  #resolve(name: string, depth: number): { at: number; size: number } | undefined {
    const path = normalize(name);
    if (path === undefined) {
      throw new ImageError('badArchive', `a name that leads out of the archive: ${JSON.stringify(name.slice(0, 300))}`);
    }
    if (depth > LINKS_MAX) throw new ImageError('badArchive', 'links of an archive that lead round', { subject: name });
    if (this.#twice.has(path)) {
      throw new ImageError('ambiguous', `the archive has ${JSON.stringify(path.slice(0, 300))} twice`, {
        subject: path,
      });
    }
    const member = this.#members.get(path);
    return member && 'link' in member ? this.#resolve(member.link, depth + 1) : member;
  }
}

/** A link's target, as a path in the archive. */
function besides(name: string, target: string): string {
  return target.startsWith('/') ? target : `${name.slice(0, name.lastIndexOf('/') + 1)}${target}`;
}

/** Without `.`, `..` and needless slashes; nothing for what leads out of the root. */
function normalize(path: string): string | undefined {
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') parts.push(part);
    else if (parts.pop() === undefined) return undefined;
  }
  return parts.join('/');
}

async function bytesAt(file: FileHandle, at: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(length);
  let have = 0;
  while (have < length) {
    const { bytesRead } = await kernel(file.read(buffer, have, length - have, at + have));
    if (bytesRead === 0) break;
    have += bytesRead;
  }
  return buffer.subarray(0, have);
}

async function uncompressed(source: FileHandle, spool: string, options: ArchiveOptions): Promise<FileHandle> {
  const { limits = {}, signal } = options;
  const most = limits.archive ?? TERA;
  async function* chunks() {
    for (let at = 0; ; ) {
      signal?.throwIfAborted();
      const bytes = await bytesAt(source, at, CHUNK);
      if (bytes.length === 0) return;
      at += bytes.length;
      yield bytes;
    }
  }
  const file = await kernel(open(spool, 'wx+', 0o600));
  try {
    await kernel(unlink(spool));
    let size = 0;
    for await (const bytes of decompress(chunks())) {
      size += bytes.length;
      if (size > most) throw new ArchiveError('ERR_ARCHIVE_LIMIT', `an archive of more than ${most} bytes`);
      await kernel(file.writeFile(bytes));
    }
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}
