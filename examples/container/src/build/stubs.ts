import { lstatSync, mkdirSync, rmdirSync, unlinkSync, writeFileSync } from 'node:fs';
import { AT, attempt, Fd, O, openHow, RESOLVE } from '@iso/sys';

/** What a container has mounted on it, where that belongs to no image; directories before what they hold. */
const PLACES = [
  { directory: '', name: 'proc', kind: 'directory' },
  { directory: '', name: 'sys', kind: 'directory' },
  { directory: '', name: 'dev', kind: 'directory' },
  { directory: '', name: 'etc', kind: 'directory' },
  { directory: 'etc', name: 'hostname', kind: 'file' },
  { directory: 'etc', name: 'hosts', kind: 'file' },
  { directory: 'etc', name: 'resolv.conf', kind: 'file' },
] as const;

interface Stub {
  parent: Fd;
  name: string;
  kind: 'directory' | 'file';
}

/**
 * Puts empty files and directories where something will be mounted, so that they can be taken away afterwards: a layer has what a command
 * has made, and nothing of what its container needed. Times of the directories that they lie in are put back, unless the command has
 * changed something there itself.
 *
 * @param root - of the file system, which is an image's: inside of it symbolic links are resolved
 * @returns what takes them away; dispose it when the command has ended
 */
export function mountStubs(root: Fd): Disposable {
  const stubs: Stub[] = [];
  const times = new Map<string, { parent: Fd; before: bigint; after: bigint }>();
  const all: Fd[] = [];
  for (const { directory, name, kind } of PLACES) {
    const parent = openInside(root, directory);
    if (!parent) continue;
    all.push(parent);
    const path = `${inside(parent)}/${name}`;
    if (lstatSync(path, { throwIfNoEntry: false })) continue;
    const before = times.get(directory)?.before ?? mtime(parent);
    if (kind === 'directory') mkdirSync(path, { mode: 0o755 });
    else writeFileSync(path, '', { flag: 'wx', mode: 0o644 });
    stubs.push({ parent, name, kind });
    times.set(directory, { parent, before, after: mtime(parent) });
  }
  return {
    [Symbol.dispose]() {
      const untouched = [...times.values()].filter(({ parent, after }) => mtime(parent) === after);
      for (const stub of stubs.reverse()) remove(stub);
      for (const { parent, before } of untouched) setTime(parent, before);
      for (const fd of all) fd.close();
    },
  };
}

function inside(fd: Fd): string {
  return `/proc/self/fd/${fd.number}`;
}

function openInside(root: Fd, path: string): Fd | undefined {
  const how = openHow(O.RDONLY | O.DIRECTORY | O.CLOEXEC, RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS);
  const fd = attempt('openat2', root, path || '.', how, how.length);
  return fd < 0 ? undefined : Fd.own(fd);
}

/** What the command has put something in stays. */
function remove({ parent, name, kind }: Stub): void {
  const path = `${inside(parent)}/${name}`;
  const info = lstatSync(path, { throwIfNoEntry: false });
  try {
    if (kind === 'directory' && info?.isDirectory()) rmdirSync(path);
    else if (kind === 'file' && info?.isFile() && info.size === 0) unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOTEMPTY') throw error;
  }
}

function mtime(directory: Fd): bigint {
  return lstatSync(`${inside(directory)}/.`, { bigint: true }).mtimeNs;
}

/** To the nanosecond: one that differs would be a change. */
function setTime(directory: Fd, nanoseconds: bigint): void {
  const OMIT = 0x3ffffffen;
  const times = Buffer.alloc(32);
  times.writeBigInt64LE(OMIT, 8);
  times.writeBigInt64LE(nanoseconds / 1_000_000_000n, 16);
  times.writeBigInt64LE(nanoseconds % 1_000_000_000n, 24);
  attempt('utimensat', AT.FDCWD, `${inside(directory)}/.`, times, 0);
}
