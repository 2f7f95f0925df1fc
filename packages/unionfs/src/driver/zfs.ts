import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { realpathSync, rmdirSync, statSync } from 'node:fs';
import { MountTree } from '@iso/mounts';
import { errnoNumber, type Fd, KernelError, UnsupportedError } from '@iso/sys';
import type { Driver } from './driver.js';
import { checkId } from './layers.js';
import { findProgram } from './program.js';

/** How the driver of ZFS keeps layers. */
export interface ZfsOptions {
  /** Dataset below which layers become datasets; default is the one that the directory lies in. */
  dataset?: string;
}

/**
 * The driver of ZFS: a layer is a dataset, a clone of the one below it, mounted in the directory. It asks the command zfs(8), whose
 * calls of the kernel are nobody else's: OpenZFS, or zfs-fuse, whose daemon must be in this process's mount namespace.
 *
 * @param root - directory of its layers; exists
 * @param options - see {@link ZfsOptions}
 * @returns the driver
 * @throws UnsupportedError where there is no `zfs`, or it cannot reach the file system; KernelError `ENOENT` where the directory lies in no
 * dataset
 */
export function zfs(root: string | Fd, options: ZfsOptions = {}): Driver & Disposable {
  const run = command(findProgram('zfs', 'zfsutils-linux (in contrib), or zfs-fuse'));
  const path = realpathSync(typeof root === 'string' ? root : `/proc/self/fd/${root.number}`);
  const { dataset, prefix } = place(run, path, options.dataset);
  const directory = (id: string) => `${path}/${checkId(id)}`;
  const name = (id: string) => `${dataset}/${prefix}${checkId(id)}`;
  const mounted = (id: string) => {
    const there = directory(id);
    // After a restart of the machine, or of the daemon.
    if (statSync(there, { throwIfNoEntry: false })?.dev === statSync(path).dev) run('mount', name(id));
    return there;
  };
  return {
    name: 'zfs',
    format: 'plain',
    directory: mounted,
    create(id, [parent]) {
      const at = ['-o', `mountpoint=${directory(id)}`];
      if (parent === undefined) return void run('create', ...at, name(id));
      const snapshot = `${name(parent)}@${checkId(id)}`;
      run('snapshot', snapshot);
      try {
        run('clone', ...at, snapshot, name(id));
      } finally {
        // It goes with its last clone.
        run('destroy', '-d', snapshot);
      }
    },
    open: (id, _parents, { readonly = false } = {}) => MountTree.clone(mounted(id), { readonly }).fd,
    diff: (id, [parent]) => ({ after: mounted(id), ...(parent ? { before: mounted(parent) } : {}) }),
    remove(id) {
      destroy(run, name(id));
      if (statSync(directory(id), { throwIfNoEntry: false })) rmdirSync(directory(id));
    },
    [Symbol.dispose]() {},
  };
}

type Zfs = (...args: string[]) => string;

/** A daemon lets go of a mount a moment after that is gone. */
function destroy(run: Zfs, dataset: string): void {
  for (let i = 0; ; i++) {
    try {
      return void run('destroy', dataset);
    } catch (error) {
      if (KernelError.is(error, 'ENOENT')) return;
      const soon = KernelError.is(error, 'EBUSY') && /busy/.test(error.hint ?? '');
      if (!soon || i === TRIES) throw error;
      Atomics.wait(clock, 0, 0, WAIT_MS);
    }
  }
}

const TRIES = 50;
const WAIT_MS = 20;
const clock = new Int32Array(new SharedArrayBuffer(4));

/** What the command says, and the error that it stands for. */
const words: readonly [pattern: RegExp, code: string][] = [
  [/already exists/, 'EEXIST'],
  [/does not exist|no such pool/, 'ENOENT'],
  [/busy|has children|has dependent clones/, 'EBUSY'],
  [/permission denied|must be root/i, 'EPERM'],
  [/out of space|no space left/i, 'ENOSPC'],
  [/quota exceeded/i, 'EDQUOT'],
  [/invalid|too long/i, 'EINVAL'],
];

function command(program: string): Zfs {
  return (...args) => {
    const { status, stdout, stderr, error } = spawnSync(program, args, {
      encoding: 'utf8',
      // Its words are what is looked at.
      env: { PATH: process.env.PATH, LC_ALL: 'C' },
    });
    if (error) throw error;
    if (status === 0) return stdout;
    const said = stderr.trim().replace(/\s*\n\s*/g, '; ');
    if (/daemon|module|\/dev\/zfs/i.test(said)) {
      throw new UnsupportedError('zfs', `${said}; modprobe zfs, or start zfs-fuse in this mount namespace`);
    }
    const code = words.find(([pattern]) => pattern.test(said))?.[1] ?? 'EIO';
    throw new KernelError(errnoNumber(code), { syscall: 'zfs', call: `zfs ${args.join(' ')}`, hint: said });
  };
}

/** Where layers of a directory go: below a dataset, with a prefix where others may have layers there too. */
function place(run: Zfs, path: string, given: string | undefined): { dataset: string; prefix: string } {
  const rows = run('list', '-H', '-o', 'name,mountpoint', '-t', 'filesystem').trim().split('\n');
  const found = rows
    .map((row) => row.split('\t') as [name: string, mountpoint: string])
    .filter(([name, at]) => (given === undefined ? `${path}/`.startsWith(`${at}/`) : name === given))
    .sort((a, b) => b[1].length - a[1].length)[0];
  if (!found) {
    const hint = given === undefined ? 'the directory lies in no dataset: name one' : 'there is no such dataset';
    throw new KernelError(errnoNumber('ENOENT'), { syscall: 'zfs', call: 'zfs list', path: given ?? path, hint });
  }
  const [dataset, mountpoint] = found;
  if (path === mountpoint) return { dataset, prefix: '' };
  return { dataset, prefix: `iso-${createHash('sha256').update(path).digest('hex').slice(0, 12)}-` };
}
