import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { MountTree } from '@iso/mounts';
import { Fd, KernelError, syscall } from '@iso/sys';
import { procPath } from '../file/call.js';
import { tryStat } from '../file/stat.js';
import type { Driver } from './driver.js';
import { findProgram } from './program.js';
import { inUserNamespace, UnionLayers, type UnionOptions } from './union.js';

const PROGRAM = 'fuse-overlayfs';

/**
 * The driver of fuse-overlayfs(1): the layers of overlay2, united by a program through FUSE, for who may not mount overlay, or on file
 * systems that overlay does not take. Each mount has a process, which ends with the mount.
 *
 * Needs the program, `/dev/fuse` and CAP_SYS_ADMIN over this process's mount namespace: a user namespace will do.
 *
 * @param root - directory of its layers; exists
 * @param options - see {@link UnionOptions}
 * @returns the driver; dispose it to close the directory
 * @throws UnsupportedError where the program is not installed
 */
export function fuseOverlayfs(root: string | Fd, options: UnionOptions = {}): Driver & Disposable {
  const program = findProgram(PROGRAM, 'fuse-overlayfs');
  const { userxattr = inUserNamespace() } = options;
  const layers = new UnionLayers(root, userxattr ? 'userxattr' : 'overlay');
  const { directory } = layers;
  return {
    ...layers.common(),
    name: 'fuse-overlayfs',
    open(id, parents, { readonly = false } = {}) {
      if (parents.length === 0) return MountTree.clone(directory(id), { readonly }).fd;
      const lower = (readonly ? [id, ...parents] : parents).map(directory);
      const writable = readonly ? undefined : { upper: directory(id), work: layers.work(id) };
      return mountFuse(program, lower, writable);
    },
  };
}

/** Mounts in this process and hands the device to the program, so that nothing is attached anywhere. */
function mountFuse(program: string, lower: string[], writable: { upper: string; work: string } | undefined): Fd {
  const words = Fd.own(syscall('memfd_create', 'words', MFD_CLOEXEC));
  const opened: Fd[] = [words];
  const open = (path: string) => {
    const fd = Fd.open(path, { directory: true, path: true });
    opened.push(fd);
    return fd;
  };
  let mount: MountTree | undefined;
  try {
    const device = Fd.open('/dev/fuse', { flags: 2 });
    opened.push(device);
    const parameters = {
      fd: String(device.number),
      rootmode: '40000',
      user_id: String(process.geteuid?.()),
      group_id: String(process.getegid?.()),
    };
    mount = MountTree.create('fuse', {
      source: PROGRAM,
      parameters: { ...parameters, allow_other: true, default_permissions: true },
      ...(writable ? {} : { readonly: true }),
    });
    const layers = [...(writable ? [writable.upper, writable.work] : []), ...lower].map(open);
    // The names that the program has for its descriptors: no character of a path means anything, no length matters.
    const names = layers.map((_, i) => `/proc/self/fd/${FIRST + 1 + i}`);
    const [upper, work] = writable ? names.splice(0, 2) : [];
    const options = [`lowerdir=${names.join(':')}`, ...(writable ? [`upperdir=${upper}`, `workdir=${work}`] : [])];
    const child = spawn(program, ['-f', '-o', options.join(), `/dev/fd/${FIRST}`], {
      stdio: ['ignore', words.number, words.number, device.number, ...layers.map((fd) => fd.number)],
      cwd: '/',
      detached: true,
    });
    // What becomes of it shows in the mount.
    child.on('error', () => {});
    child.unref();
    // From here on the program alone holds the device: if it ends, the mount answers ENOTCONN.
    device.close();
    const answer = tryStat(mount.fd.number, DOT);
    if (typeof answer === 'number') {
      const said = readFileSync(procPath(words.number), 'utf8').trim();
      const hint = said || `${program} ended before it answered`;
      throw new KernelError(answer, { syscall: 'statx', call: PROGRAM, hint });
    }
    return mount.fd;
  } catch (error) {
    mount?.close();
    throw error;
  } finally {
    for (const fd of opened) fd.close();
  }
}

/** The number that the program's first descriptor behind the standard ones has. */
const FIRST = 3;
const MFD_CLOEXEC = 1;
const DOT = Buffer.from('.');
