import { AT, type Fd, UnsupportedError } from '@iso/sys';
import { procPath, readlink } from '../file/call.js';
import { stat, tryStat } from '../file/stat.js';
import { mountInChild, OPTIONS } from './child.js';

/** What mount(2) is told of layers. */
export interface AttachedLayers {
  /** Lower layers, each a detached mount of its own. */
  lower: readonly Fd[];
  /** Layers of data only (Linux 6.5), detached too. */
  data: readonly Fd[];
  writable?: { upper: Fd; work: Fd } | undefined;
}

/**
 * Mounts an overlay on kernels whose fsconfig(2) has no `lowerdir+` (before Linux 6.8) or takes attached mounts only as layers (before
 * 6.15): by mount(2), in a child that has a mount namespace of its own, where the layers are attached. Layers are named by their
 * descriptors' numbers, from /proc/self/fd as working directory: 500 of them fit into the page that mount(2) reads.
 *
 * @param layers - the lower ones are used up
 * @param parameters - features, as `overlayParameters()` has them
 * @param attr - MOUNT_ATTR bits of the mount
 * @returns the detached mount
 * @throws KernelError of the mount call, without the kernel's own words, which only its log has; UnsupportedError for a writable layer
 * on a mount that is attached nowhere
 */
export function mountAttached(
  layers: AttachedLayers,
  parameters: readonly [key: string, value: string | null][],
  attr: number,
): Fd {
  const { lower, data, writable } = layers;
  const numbers = lower.map((fd) => fd.number).join(':') + data.map((fd) => `::${fd.number}`).join('');
  const options = Buffer.concat([
    Buffer.from(`lowerdir=${numbers}`),
    // What the child opens has a number that is known too late: a directory of the namespace is named by its path.
    ...(writable ? [pathOption('upperdir', writable.upper), pathOption('workdir', writable.work)] : []),
    ...parameters.map(([key, value]) => Buffer.from(value === null ? `,${key}` : `,${key}=${value}`)),
  ]);
  if (options.length >= OPTIONS) {
    const reason = `mount(2) takes ${OPTIONS - 1} bytes of options, these layers have ${options.length}`;
    throw new UnsupportedError('lowerdir+', reason, { since: '6.8' });
  }
  return mountInChild('overlay', [options], {
    attr,
    attach: [...lower, ...data],
    hint: 'the kernel log says why: before Linux 6.5 its words on overlays go nowhere else',
  });
}

/** The path of a directory in this process's mount namespace. */
function attachedPath(fd: Fd): Buffer {
  const path = readlink(AT.FDCWD, Buffer.from(procPath(fd.number)));
  const there = tryStat(AT.FDCWD, path);
  if (typeof there === 'number' || there.identity !== stat(fd.number, null).identity) {
    const reason = `${path} is on a mount that is attached nowhere, or was removed`;
    throw new UnsupportedError('a writable layer of a detached mount', reason, { since: '6.15' });
  }
  return path;
}

function pathOption(key: string, directory: Fd): Buffer {
  const path = attachedPath(directory).toString('latin1').replace(/[\\,]/g, '\\$&');
  return Buffer.from(`,${key}=${path}`, 'latin1');
}
