import {
  chmodSync,
  chownSync,
  copyFileSync,
  fstatSync,
  lchownSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  type Stats,
  symlinkSync,
} from 'node:fs';
import { type MountFlags, MountTree } from '@iso/mounts';
import { attempt, Fd, KernelError, O, openHow, RESOLVE, syscall } from '@iso/sys';

const DIRECTORY = O.RDONLY | O.DIRECTORY | O.CLOEXEC;

/**
 * A memory file system that begins with what a directory of the root holds: `tmpcopyup`. Owners, modes and times are kept, extended
 * attributes are not.
 *
 * @param root - directory of the host that becomes the root
 * @param target - path inside, that it is mounted on
 * @param options - of the mount; `parameters` of the file system, of which the directory's mode is the default
 * @returns the mount, attached nowhere
 * @throws KernelError where there is no room, or something that cannot be read
 */
export function copyUp(
  root: string,
  target: string,
  options: MountFlags & { source?: string; parameters: Record<string, string | true> },
): MountTree {
  using from = openInside(root, target);
  const mode = from && { mode: (fstatSync(from.number).mode & 0o7777).toString(8) };
  // Read-only comes last: it is to be filled first.
  const { readonly = false, ...flags } = options;
  const tree = MountTree.create('tmpfs', { ...flags, parameters: { ...mode, ...options.parameters } });
  try {
    if (from) {
      copyDirectory(from, tree.fd);
    }
    return readonly ? tree.setattr({ readonly }) : tree;
  } catch (error) {
    tree.close();
    throw error;
  }
}

/** No link of the root leads out of it. */
function openInside(root: string, path: string): Fd | undefined {
  using top = Fd.open(root, { flags: O.PATH | O.DIRECTORY });
  const how = openHow(DIRECTORY, RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS);
  const relative = path.replace(/^\/+/, '') || '.';
  const opened = attempt('openat2', top, relative, how, how.length);
  if (opened === -ENOENT) return undefined;
  if (opened < 0) throw new KernelError(opened, { syscall: 'openat2', path });
  return Fd.own(opened);
}

const ENOENT = 2;

/** Copies what a directory holds: every name is looked up below its descriptor, where nobody can put a link in between. */
function copyDirectory(from: Fd, to: Fd): void {
  for (const name of readdirSync(pathOf(from), { encoding: 'buffer' })) {
    const [source, copy] = [pathOf(from, name), pathOf(to, name)];
    const info = lstatSync(source);
    if (info.isDirectory()) {
      mkdirSync(copy, 0o700);
      using below = openDirectory(from, name);
      using copied = openDirectory(to, name);
      copyDirectory(below, copied);
      chownSync(copy, info.uid, info.gid);
      chmodSync(copy, info.mode & 0o7777);
    } else if (info.isSymbolicLink()) {
      symlinkSync(readlinkSync(source, { encoding: 'buffer' }), copy);
      lchownSync(copy, info.uid, info.gid);
    } else copyNode(from, name, to, info);
    lutimesSync(copy, info.atimeMs / 1000, info.mtimeMs / 1000);
  }
}

function copyNode(from: Fd, name: Buffer, to: Fd, { mode, rdev }: Stats): void {
  const text = Buffer.concat([name, Buffer.alloc(1)]);
  if ((mode & S_IFMT) !== S_IFREG) {
    syscall('mknodat', to, text, mode & S_IFMT, rdev);
    const info = lstatSync(pathOf(from, name));
    lchownSync(pathOf(to, name), info.uid, info.gid);
    return chmodSync(pathOf(to, name), mode & 0o7777);
  }
  // What it is now, and not what it was when it was looked at.
  using source = Fd.own(syscall('openat', from, text, O.RDONLY | O.NOFOLLOW | O.NONBLOCK | O.CLOEXEC, 0));
  const info = fstatSync(source.number);
  if (!info.isFile())
    throw new KernelError(EINVAL, { syscall: 'openat', call: `copying ${name}: it is no file any more` });
  copyFileSync(pathOf(source), pathOf(to, name));
  chownSync(pathOf(to, name), info.uid, info.gid);
  chmodSync(pathOf(to, name), info.mode & 0o7777);
}

function openDirectory(above: Fd, name: Buffer): Fd {
  const text = Buffer.concat([name, Buffer.alloc(1)]);
  return Fd.own(syscall('openat', above, text, DIRECTORY | O.NOFOLLOW, 0));
}

function pathOf(fd: Fd, name?: Buffer): Buffer {
  const path = Buffer.from(`/proc/self/fd/${fd.number}`);
  return name ? Buffer.concat([path, Buffer.from('/'), name]) : path;
}

const EINVAL = 22;
const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
