import { closeSync, type FSWatcher, fstatSync, openSync, readSync, statSync, watch } from 'node:fs';
import { dirname } from 'node:path';

/** Which lines of a rotated file. */
export interface LinesOptions {
  /** Only so many of those that are there; default all. */
  last?: number;
  /** Those that come, too, until this says that there will be no more; it is asked when something has changed. */
  until?: () => boolean;
  /** Gives up waiting. */
  signal?: AbortSignal;
}

const CHUNK = 65536;
/** Where no event comes of a change: a file system that has none. */
const LOOK_AGAIN_MS = 1000;
const LINE_FEED = 10;

/**
 * Lines of a file that `RotatedFile` writes, the oldest first, also while it is written and renamed.
 *
 * @param path - of the file
 * @param options - which, and whether to wait for more
 * @returns whole lines, without their ends; none where there is no file
 */
export async function* rotatedLines(path: string, options: LinesOptions = {}): AsyncGenerator<string, void, undefined> {
  const { last, until, signal } = options;
  const change = until && new Change(dirname(path));
  let files = open(path);
  try {
    const start = last === undefined ? { index: 0, offset: 0 } : startOfLast(files, last);
    let rest: Buffer = Buffer.alloc(0);
    let { offset } = start;
    for (const fd of files.splice(0, start.index)) closeSync(fd);
    for (;;) {
      // Asked before the file is read to its end: what is written until then is read.
      const over = !until || until() || signal?.aborted;
      for (let fd = files[0]; fd !== undefined; fd = files[0]) {
        for (let chunk = read(fd, offset); chunk.length > 0; chunk = read(fd, offset)) {
          offset += chunk.length;
          const lines = Buffer.concat([rest, chunk]);
          const end = lines.lastIndexOf(LINE_FEED) + 1;
          rest = lines.subarray(end);
          if (end > 0) yield* lines.toString('utf8', 0, end - 1).split('\n');
        }
        if (files.length === 1) break;
        // One that has a successor grows no more.
        closeSync(fd);
        files.shift();
        offset = 0;
      }
      const newer = successors(path, files);
      if (newer.length > 0) {
        // The last one may have grown before it was renamed: it is read once more.
        files = [...files, ...newer];
        continue;
      }
      if (over) return;
      await change?.next(signal);
    }
  } finally {
    change?.close();
    for (const fd of files) closeSync(fd);
  }
}

/**
 * The same, of a file whose lines are JSON. Half a line, of who was killed while it wrote, is none.
 *
 * @param path - of the file
 * @param options - which, and whether to wait for more
 * @returns what the lines say
 */
export async function* rotatedEntries<T>(path: string, options: LinesOptions = {}): AsyncGenerator<T, void, undefined> {
  for await (const line of rotatedLines(path, options)) {
    let entry: T;
    try {
      entry = JSON.parse(line) as T;
    } catch {
      continue;
    }
    yield entry;
  }
}

/** Descriptors, the oldest first: what is renamed meanwhile stays what it was. */
function open(path: string): number[] {
  const files: number[] = [];
  for (let i = 0; ; i++) {
    const fd = tryOpen(i === 0 ? path : `${path}.${i}`);
    if (fd === undefined) {
      // Between the renaming of a file and the next line there is none of this name.
      if (i === 0) continue;
      return files.reverse();
    }
    // Renamed since the one before was opened: it is there already.
    if (files.some((other) => same(other, fd))) closeSync(fd);
    else files.push(fd);
  }
}

/** Files that came after the newest one. */
function successors(path: string, files: readonly number[]): number[] {
  const newest = files.at(-1);
  const current = statSync(path, { throwIfNoEntry: false });
  if (!current || (newest !== undefined && fstatSync(newest).ino === current.ino)) return [];
  const all = open(path);
  const at = newest === undefined ? -1 : all.findIndex((fd) => same(fd, newest));
  // Where it is among the files no more, those that are there all came after it.
  for (const fd of all.slice(0, at + 1)) closeSync(fd);
  return all.slice(at + 1);
}

function startOfLast(files: readonly number[], last: number): { index: number; offset: number } {
  let wanted = last;
  for (let index = files.length - 1; index >= 0; index--) {
    const fd = files[index] as number;
    const { size } = fstatSync(fd);
    if (wanted === 0) return { index, offset: size };
    for (let end = size; end > 0; end = Math.max(0, end - CHUNK)) {
      const chunk = read(fd, Math.max(0, end - CHUNK), Math.min(CHUNK, end));
      for (let at = chunk.length - 1; at >= 0; at--) {
        if (chunk[at] !== LINE_FEED || Math.max(0, end - CHUNK) + at === size - 1) continue;
        if (--wanted === 0) return { index, offset: Math.max(0, end - CHUNK) + at + 1 };
      }
    }
    // Its first line has no end before it.
    if (size > 0 && --wanted === 0) return { index, offset: 0 };
  }
  return { index: 0, offset: 0 };
}

function read(fd: number, offset: number, length = CHUNK): Buffer {
  const chunk = Buffer.allocUnsafe(length);
  return chunk.subarray(0, readSync(fd, chunk, 0, length, offset));
}

function tryOpen(path: string): number | undefined {
  try {
    return openSync(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function same(a: number, b: number): boolean {
  const [one, other] = [fstatSync(a), fstatSync(b)];
  return one.ino === other.ino && one.dev === other.dev;
}

/** Changes of a directory: none between two calls is missed. */
class Change {
  readonly #watcher: FSWatcher | undefined;
  #happened = false;
  #wake = () => {};

  constructor(directory: string) {
    try {
      this.#watcher = watch(directory, () => this.#tell()).on('error', () => {});
    } catch {
      // No more watches for this user: time tells.
    }
  }

  #tell(): void {
    this.#happened = true;
    this.#wake();
  }

  async next(signal?: AbortSignal): Promise<void> {
    if (!this.#happened && !signal?.aborted) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, LOOK_AGAIN_MS);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
        signal?.addEventListener('abort', this.#wake, { once: true });
      });
      signal?.removeEventListener('abort', this.#wake);
    }
    this.#happened = false;
  }

  close(): void {
    this.#watcher?.close();
  }
}
