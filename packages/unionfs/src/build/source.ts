import { createHash } from 'node:crypto';
import { posix } from 'node:path';
import { attempt, Fd, KernelError, O } from '@iso/sys';
import { ImageError } from '../content/error.js';
import { check, close, ERRNO, open, realPath, tryOpenInRoot } from '../file/call.js';
import { readDirectory } from '../file/directory.js';
import { type Stat, stat } from '../file/stat.js';
import { describe, type Place } from '../layer/describe.js';
import { splitPath } from '../layer/path.js';
import { isPattern, namePattern } from './pattern.js';

/** A tree that files are taken from, and never anything outside of it. */
export interface SourceRoot {
  /** Its directory. */
  fd: number;
  /** What is not there, as far as a build goes: a path without a slash in front. */
  ignored?(path: string): boolean;
  /** Below a directory that is ignored there may be what is not. */
  mayHold?: boolean;
  /** What of each source is left out: by its path in a directory that is copied, else by its name. */
  excluded?: { ignored(path: string): boolean; mayHold: boolean } | undefined;
}

/** A file or directory that is to be copied. */
export interface Source {
  /** What it was asked for by, the last component: what a copy in a directory is called. */
  name: Buffer;
  /** Where it is below the root, symbolic links resolved; empty for the root. */
  real: Buffer;
  stat: Stat;
  /** Of a directory no more than these paths in it, their bytes as latin1, with the directories that they lie in. */
  only?: readonly string[];
}

/** Something in a {@link Source}. */
export interface Found {
  /** Below the source; empty for itself. */
  path: Buffer;
  /** Good until the next one is asked for. */
  place: Place;
}

const EMPTY = Buffer.alloc(0);
const DOT = Buffer.from('.');
const SLASH = Buffer.from('/');
const CHUNK = 512 * 1024;

/**
 * Finds what a step names, in the order of names. Symbolic links are followed inside the root, as if it were "/".
 *
 * @param root - where
 * @param text - a path or a pattern; `..` does not lead above the root
 * @param options - `deep`: `**` stands for any number of directories
 * @returns what there is; nothing where a pattern matches nothing
 * @throws KernelError `ENOENT` for a path that is not there, or ignored
 */
export function findSources(root: SourceRoot, text: string, options: { deep?: boolean } = {}): Source[] {
  const parts = posix
    .normalize(`/${text}`)
    .split('/')
    .filter((part) => part !== '');
  let paths: Buffer[] = [EMPTY];
  for (const [i, part] of parts.entries()) {
    const deep = options.deep && part === '**';
    if (deep && parts[i - 1] === part) continue;
    // A directory that several ways lead to holds the same by each: it is looked at once, else their number grows with each part.
    const seen = new Set<string>();
    if (deep) paths = paths.flatMap((path) => descend(root, path, seen));
    else if (isPattern(part)) paths = paths.flatMap((path) => expand(root, path, part, seen));
    else paths = paths.map((path) => join(path, Buffer.from(part)));
  }
  const strict = !parts.some(isPattern);
  return paths.flatMap((path) => {
    const found = resolve(root, path);
    if (typeof found !== 'number') return [found];
    if (strict) throw new KernelError(found, { syscall: 'openat2', path: text, hint: notThere(found) });
    return [];
  });
}

/**
 * The same with the directories that each lies in: below the root, or below the place that `/./` marks in the text.
 *
 * @param root - where
 * @param texts - paths or patterns, in which `**` stands for any number of directories
 * @returns directories, each with what of it was asked for
 * @throws KernelError `ENOENT`; {@link ImageError} `badStep` where nothing matches, or what does lies elsewhere
 */
export function findWithParents(root: SourceRoot, texts: readonly string[]): Source[] {
  const tops = new Map<string, Source & { only: string[] }>();
  for (const text of texts) {
    const clean = text.replace(/^(\.?\/)+/, '');
    const mark = clean.indexOf('/./');
    const [top] = findSources(root, mark < 0 ? '.' : clean.slice(0, mark));
    const found = findSources(root, clean, { deep: true });
    if (!top || found.length === 0) throw new ImageError('badStep', `nothing matches ${JSON.stringify(text)}`);
    const key = top.real.toString('latin1');
    const into = tops.get(key) ?? { ...top, only: [] };
    tops.set(key, into);
    for (const { real } of found) {
      if (top.real.length && !real.subarray(0, top.real.length + 1).equals(Buffer.concat([top.real, SLASH]))) {
        throw new ImageError('badStep', `${JSON.stringify(text)} leads out of ${JSON.stringify(String(top.real))}`);
      }
      into.only.push((top.real.length ? real.subarray(top.real.length + 1) : real).toString('latin1'));
    }
  }
  return [...tops.values()];
}

function notThere(errno: number): string {
  return errno === -ERRNO.ELOOP
    ? 'its symbolic links go round'
    : 'nothing outside of the context counts, nor what is ignored';
}

/** Names of a directory that match. */
function expand(root: SourceRoot, path: Buffer, part: string, seen: Set<string>): Buffer[] {
  const pattern = namePattern(part);
  const fd = tryOpenInRoot(root.fd, path, O.RDONLY | O.DIRECTORY);
  if (fd < 0) return [];
  try {
    if (!isNew(seen, root, fd)) return [];
    return readDirectory(fd)
      .map(({ name }) => name)
      .sort(Buffer.compare)
      .filter((name) => pattern.test(String(name)))
      .map((name) => join(path, name));
  } finally {
    close(fd);
  }
}

/** A directory, and all directories in it. */
function descend(root: SourceRoot, path: Buffer, seen: Set<string>): Buffer[] {
  const fd = tryOpenInRoot(root.fd, path, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
  if (fd < 0) return [];
  try {
    if (!isNew(seen, root, fd)) return [];
    const below = readDirectory(fd)
      .map(({ name }) => name)
      .sort(Buffer.compare)
      .flatMap((name) => descend(root, join(path, name), seen));
    return [path, ...below];
  } finally {
    close(fd);
  }
}

/** Whether a directory was not seen yet; it is from now on. */
function isNew(seen: Set<string>, root: SourceRoot, fd: number): boolean {
  const real = realPath(root.fd, fd).toString('latin1');
  if (seen.has(real)) return false;
  seen.add(real);
  return true;
}

function join(path: Buffer, name: Buffer): Buffer {
  return path.length ? Buffer.concat([path, SLASH, name]) : name;
}

function resolve(root: SourceRoot, path: Buffer): Source | number {
  const opened = tryOpenInRoot(root.fd, path, O.PATH);
  if (opened < 0) return opened;
  using fd = Fd.own(opened);
  const real = realPath(root.fd, fd.number);
  if (real.length && root.ignored?.(String(real)) && !root.mayHold) return -ERRNO.ENOENT;
  const found = stat(fd.number, null);
  if (real.length && found.type !== 'directory' && root.ignored?.(String(real))) return -ERRNO.ENOENT;
  return { name: splitPath(path).base, real, stat: found };
}

/**
 * All of a source: itself, and what is in it, by the bytes of the names; a directory before what it holds.
 *
 * @param root - where
 * @param source - of the same root
 * @returns files, as they are asked for
 * @throws KernelError
 */
export function* walkSource(root: SourceRoot, source: Source): Generator<Found, void, undefined> {
  const { parent, base } = splitPath(source.real);
  const directory = check(tryOpenInRoot(root.fd, parent, O.PATH | O.DIRECTORY), 'openat2', parent);
  try {
    const name = base.length ? base : DOT;
    const place = { directory, name, stat: stat(directory, name) };
    yield { path: EMPTY, place };
    if (place.stat.type === 'directory') {
      yield* inside(selection(root, source), directory, name, source.real, EMPTY, []);
    }
  } finally {
    close(directory);
  }
}

/** What becomes of something in a source: `above` is a directory that comes if something in it does. */
type Select = (full: Buffer, path: Buffer) => 'in' | 'out' | 'above';

function selection(root: SourceRoot, { only }: Source): Select {
  const { excluded } = root;
  return (full, path) => {
    const bytes = path.toString('latin1');
    const wanted = !only || only.some((each) => each === '' || bytes === each || bytes.startsWith(`${each}/`));
    if (!wanted && !only?.some((each) => each.startsWith(`${bytes}/`))) return 'out';
    const ignored = root.ignored?.(String(full)) ?? false;
    const left = excluded?.ignored(String(path)) ?? false;
    if ((ignored && !root.mayHold) || (left && !excluded?.mayHold)) return 'out';
    return wanted && !ignored && !left ? 'in' : 'above';
  };
}

function* inside(
  select: Select,
  directory: number,
  name: Buffer,
  real: Buffer,
  prefix: Buffer,
  /** Directories above that come if something in them does. */
  waiting: Found[],
): Generator<Found, void, undefined> {
  const fd = open(directory, name, O.RDONLY | O.DIRECTORY);
  try {
    for (const entry of readDirectory(fd).sort((a, b) => Buffer.compare(a.name, b.name))) {
      const path = prefix.length ? Buffer.concat([prefix, SLASH, entry.name]) : entry.name;
      const full = real.length ? Buffer.concat([real, SLASH, entry.name]) : entry.name;
      const selected = select(full, path);
      if (selected === 'out') continue;
      const place = { directory: fd, name: entry.name, stat: stat(fd, entry.name) };
      const found = { path, place };
      if (selected === 'above') {
        if (place.stat.type === 'directory') yield* inside(select, fd, entry.name, full, path, [...waiting, found]);
        continue;
      }
      yield* waiting.splice(0);
      yield found;
      if (place.stat.type === 'directory') yield* inside(select, fd, entry.name, full, path, []);
    }
  } finally {
    close(fd);
  }
}

/**
 * What a copy depends on: names, kinds, modes, attributes and contents, no times. Owners count where they are kept.
 *
 * @param root - where
 * @param sources - of the same root
 * @param options - `owners`: they count
 * @returns hexadecimal digits
 */
export function fingerprint(root: SourceRoot, sources: readonly Source[], options: { owners: boolean }): string {
  const hash = createHash('sha256');
  const linked = new Map<string, string>();
  for (const [i, source] of sources.entries()) {
    for (const { path, place } of walkSource(root, source)) {
      const entry = describe(place, path, {});
      if (!entry) continue;
      const { identity, links } = place.stat;
      const own = `${i}/${path.toString('hex')}`;
      const first = links > 1 && entry.type !== 'directory' ? linked.get(identity) : undefined;
      if (!first && links > 1) linked.set(identity, own);
      const row = {
        path: own,
        name: path.length ? undefined : source.name.toString('hex'),
        type: entry.type,
        mode: entry.mode,
        owner: options.owners ? [entry.uid, entry.gid] : undefined,
        link: first ?? entry.linkpath?.toString('hex'),
        device: entry.device,
        xattrs: [...(entry.xattrs ?? [])].map(([name, value]) => [name, value.toString('hex')]).sort(),
        content: entry.type === 'file' && !first ? contentHash(place) : undefined,
      };
      hash.update(`${JSON.stringify(row)}\n`);
    }
  }
  return hash.digest('hex');
}

function contentHash({ directory, name }: Place): string {
  const fd = open(directory, name, O.RDONLY | O.NONBLOCK);
  try {
    const hash = createHash('sha256');
    const buffer = Buffer.allocUnsafe(CHUNK);
    for (;;) {
      const length = attempt('read', fd, buffer, buffer.length);
      if (length === -ERRNO.EINTR) continue;
      if (check(length, 'read', name) === 0) return hash.digest('hex');
      hash.update(buffer.subarray(0, length));
    }
  } finally {
    close(fd);
  }
}
