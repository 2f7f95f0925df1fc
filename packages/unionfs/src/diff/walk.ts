import { invalid, O } from '@iso/sys';
import { check, close, open, tryOpenInRoot } from '../file/call.js';
import { readDirectory } from '../file/directory.js';
import { stat } from '../file/stat.js';
import { type Place, xattrNames } from '../layer/describe.js';
import { overlayPrefix, type WhiteoutFormat, whiteoutMeaning } from '../layer/whiteout.js';
import { ArchiveError } from '../tar/error.js';
import { type ChangedField, compare } from './compare.js';
import { isOpaque, isWhiteout, nothing, View } from './view.js';

/** A directory that the walk is in. */
export interface Frame {
  path: Buffer;
  place: Place;
}

/** A change with the files themselves, which are there until the next one is asked for. */
export interface Delta {
  path: Buffer;
  kind: 'add' | 'modify' | 'delete';
  fields: ChangedField[];
  before?: Place;
  after?: Place;
  /** The directories that it lies in, from the root. */
  parents: readonly Frame[];
}

const DOT = Buffer.from('.');
const EMPTY = Buffer.alloc(0);
const SLASH = Buffer.from('/');
const MAX_DEPTH = 1024;

/** Walks two trees, or what two stacks of layers show. Directories come before what is in them, deletions before their siblings. */
export class TreeWalk {
  readonly #content: 'read' | 'stamp';
  readonly #parents: Frame[] = [];

  /** @param content - see {@link compare} */
  constructor(content: 'read' | 'stamp') {
    this.#content = content;
  }

  /**
   * The roots and all below.
   *
   * @param before - the one
   * @param after - the other
   * @param path - where they are
   * @returns changes from `before` to `after`
   */
  *walk(before: View, after: View, path: Buffer = EMPTY): Generator<Delta, void, undefined> {
    const names = after.names();
    const kept = new Set(names.map((name) => name.toString('latin1')));
    for (const name of before.names()) {
      if (!kept.has(name.toString('latin1'))) yield this.deleted(before, name, path);
    }
    for (const name of names) {
      const now = after.lookup(name);
      if (now) yield* this.entry(before, now, join(path, name), () => after.enter(name));
    }
  }

  /** One name that is there afterwards, with all below it. */
  *entry(before: View, now: Place, path: Buffer, enter: () => View): Generator<Delta, void, undefined> {
    const old = before.lookup(now.name);
    yield* this.changed(old, now, path);
    if (now.stat.type !== 'directory') return;
    const was = old?.stat.type === 'directory' ? before.enter(now.name) : nothing;
    const is = enter();
    this.push(path, now);
    try {
      yield* this.walk(was, is, path);
    } finally {
      this.pop();
      was.close();
      is.close();
    }
  }

  /** What is to be said of one file by itself. */
  *changed(old: Place | undefined, now: Place, path: Buffer): Generator<Delta, void, undefined> {
    const common = { path, after: now, parents: this.#parents };
    if (!old) yield { ...common, kind: 'add', fields: [] };
    else {
      const fields = compare(old, now, this.#content);
      if (fields.length) yield { ...common, kind: 'modify', fields, before: old };
    }
  }

  /** A name that is gone. */
  deleted(before: View, name: Buffer, path: Buffer): Delta {
    const old = before.lookup(name);
    return {
      path: join(path, name),
      kind: 'delete',
      fields: [],
      parents: this.#parents,
      ...(old ? { before: old } : {}),
    };
  }

  /** A file that got another name. */
  linked(before: Place, after: Place, path: Buffer): Delta {
    return { path, kind: 'modify', fields: ['link'], before, after, parents: this.#parents };
  }

  push(path: Buffer, place: Place): void {
    if (this.#parents.length >= MAX_DEPTH) {
      throw new ArchiveError('ERR_ARCHIVE_LIMIT', 'directories are too deep inside another', { path });
    }
    this.#parents.push({ path, place });
  }

  pop(): void {
    this.#parents.pop();
  }
}

/** Walks the writable layer of a union alone: what is not in it has not changed. */
export class UpperWalk {
  readonly #format: WhiteoutFormat;
  readonly #merged: number | undefined;
  readonly #tree = new TreeWalk('read');

  /**
   * @param format - of the layer
   * @param merged - the mounted union, or undefined
   */
  constructor(format: WhiteoutFormat, merged: number | undefined) {
    this.#format = format;
    this.#merged = merged;
  }

  /**
   * The root and all below.
   *
   * @param below - what the lower layers show
   * @param upper - root of the layer, open for reading
   * @returns changes
   */
  *walk(below: View, upper: number): Generator<Delta, void, undefined> {
    const root = (fd: number): Place => ({ directory: fd, name: DOT, stat: stat(fd, DOT), format: this.#format });
    const [lower] = below.directories;
    const now = root(upper);
    yield* this.#tree.changed(lower === undefined ? undefined : root(lower), now, EMPTY);
    this.#tree.push(EMPTY, now);
    yield* this.#inside(below, upper, EMPTY, isOpaque(upper, this.#format));
  }

  *#inside(below: View, upper: number, path: Buffer, opaque: boolean): Generator<Delta, void, undefined> {
    const present: Place[] = [];
    const gone = new Map<string, Buffer>();
    const kept = new Set<string>();
    for (const { name } of readDirectory(upper)) {
      if (this.#format === 'aufs') {
        const meaning = whiteoutMeaning(name);
        if (meaning.kind === 'whiteout') gone.set(meaning.name.toString('latin1'), meaning.name);
        if (meaning.kind !== 'plain') continue;
      } else if (whiteoutMeaning(name).kind === 'opaque') {
        // Left by fuse-overlayfs beside its attribute.
        continue;
      }
      const place = { directory: upper, name, stat: stat(upper, name), format: this.#format };
      if (isWhiteout(upper, name, place.stat, this.#format)) gone.set(name.toString('latin1'), name);
      else {
        present.push(place);
        kept.add(name.toString('latin1'));
      }
    }
    if (opaque) for (const name of below.names()) gone.set(name.toString('latin1'), name);
    for (const name of [...gone.values()].sort(Buffer.compare)) {
      if (!kept.has(name.toString('latin1')) && below.lookup(name)) yield this.#tree.deleted(below, name, path);
    }
    for (const place of present.sort((a, b) => Buffer.compare(a.name, b.name))) {
      yield* this.#entry(below, place, join(path, place.name), opaque);
    }
  }

  *#entry(below: View, place: Place, path: Buffer, opaque: boolean): Generator<Delta, void, undefined> {
    const { directory, name, stat: now } = place;
    if (now.type === 'file' && this.#mark(place, 'metacopy')) {
      return yield* this.#throughUnion(path, (whole) => this.#tree.changed(below.lookup(name), whole, path));
    }
    if (now.type !== 'directory') return yield* this.#file(below.lookup(name), place, path);
    const inside = open(directory, name, O.RDONLY | O.DIRECTORY);
    place.opened = inside;
    try {
      if (this.#mark(place, 'redirect')) {
        return yield* this.#throughUnion(path, (whole) =>
          this.#tree.entry(below, whole, path, () => {
            return new View([open(whole.directory, name, O.RDONLY | O.DIRECTORY)], undefined, true);
          }),
        );
      }
      yield* this.#directory(below, place, inside, path, opaque);
    } finally {
      close(inside);
    }
  }

  *#directory(
    below: View,
    place: Place,
    inside: number,
    path: Buffer,
    opaque: boolean,
  ): Generator<Delta, void, undefined> {
    const old = below.lookup(place.name);
    const was = old?.stat.type === 'directory' ? below.enter(place.name) : nothing;
    if (old) old.opened = was.directories[0];
    try {
      yield* this.#tree.changed(old, place, path);
      this.#tree.push(path, place);
      // What lies in an opaque directory hides all below as well.
      const hides = opaque || isOpaque(inside, this.#format, xattrNames(place));
      yield* this.#inside(was, inside, path, hides);
      this.#tree.pop();
    } finally {
      was.close();
    }
  }

  /** A file that was copied up for another name of it: without it there, the two names would be two files elsewhere. */
  *#file(old: Place | undefined, now: Place, path: Buffer): Generator<Delta, void, undefined> {
    let changed = false;
    for (const delta of this.#tree.changed(old, now, path)) {
      changed = true;
      yield delta;
    }
    if (!changed && old && now.stat.links > 1) yield this.#tree.linked(old, now, path);
  }

  #mark(place: Place, mark: 'metacopy' | 'redirect'): boolean {
    if (this.#format === 'aufs') return false;
    return xattrNames(place).includes(overlayPrefix(this.#format) + mark);
  }

  /** What the layer holds only in part is looked at through the union. */
  *#throughUnion(path: Buffer, walk: (whole: Place) => Generator<Delta, void, undefined>) {
    if (this.#merged === undefined) {
      throw invalid('the layer was written with metacopy or redirect_dir: its changes are seen through `merged` only');
    }
    const slash = path.lastIndexOf(0x2f);
    const directory = tryOpenInRoot(this.#merged, path.subarray(0, Math.max(slash, 0)), O.RDONLY | O.DIRECTORY);
    check(directory, 'openat2', path);
    try {
      const name = path.subarray(slash + 1);
      yield* walk({ directory, name, stat: stat(directory, name), format: undefined });
    } finally {
      close(directory);
    }
  }
}

function join(path: Buffer, name: Buffer): Buffer {
  return path.length ? Buffer.concat([path, SLASH, name]) : name;
}
