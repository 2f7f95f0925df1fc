import { attributes, fscommand, fsconfig, fsmount, fsopen, type MountFlags, MountTree } from '@iso/mounts';
import { Fd, invalid, KernelError, UnsupportedError } from '@iso/sys';
import { type OverlayFeatures, overlayParameters } from './parameters.js';
import { volatileMark } from './volatile.js';

/** An overlay that is mounted here, see {@link openOverlay}. */
export interface OpenOverlayOptions extends OverlayFeatures, MountFlags {
  /** Read-only layers, the uppermost first: 1 to 500 directories, as paths of any characters or as descriptors. */
  lower: readonly (string | Fd)[];
  /** Below them: layers that only hold data for `metacopy` files above (Linux 6.5). */
  dataOnly?: readonly (string | Fd)[];
  /** Writable layer. Without it the overlay is read-only. */
  upper?: string | Fd;
  /** Empty directory on the file system of `upper`. */
  work?: string | Fd;
  /** User namespace whose maps the lower layers are shown with; the overlay itself cannot be mapped. */
  idmap?: Fd;
}

const MAX_LAYERS = 500;
const MAX_STRING = 255;

/**
 * Mounts an overlay and holds it by its descriptor: it is in no mount namespace until somebody attaches it (move_mount(2)), in
 * whichever namespace, and gone when the descriptor is closed. Layers are passed as descriptors (Linux 6.13), before that by
 * their names in /proc/self/fd: no character of a path means anything, no length matters.
 *
 * Needs CAP_SYS_ADMIN over this process's mount namespace.
 *
 * @param options - layers and features
 * @returns the detached mount
 * @throws KernelError with the kernel's own reason; `EINVAL` for a writable layer that a volatile overlay left unclean;
 * UnsupportedError where this kernel cannot take so many layers; `TypeError` for layers that make no overlay
 *
 * @example
 * ```ts root
 * import { openOverlay } from '@iso/unionfs';
 * using mount = openOverlay({ lower: ['/usr', '/etc'] });
 * if (mount.closed) throw new Error('not mounted');
 * ```
 */
export function openOverlay(options: OpenOverlayOptions): Fd {
  const { lower, dataOnly = [], upper, work } = options;
  const count = lower.length + dataOnly.length;
  if (lower.length === 0) throw invalid('an overlay needs at least one lower layer');
  if (count > MAX_LAYERS) throw invalid(`an overlay takes ${MAX_LAYERS} lower layers, not ${count}`);
  if (!upper && count === 1) throw invalid('one layer without a writable one is no overlay: bind it read-only');
  if ((upper === undefined) !== (work === undefined)) throw invalid('an upper and a work directory go together');
  const parameters = overlayParameters(options);
  const open: { close(): void }[] = [];
  const layer = (from: string | Fd, idmap?: Fd): Fd => {
    if (idmap) {
      const mapped = MountTree.clone(typeof from === 'string' ? from : proc(from), { idmap });
      open.push(mapped);
      return mapped.fd;
    }
    if (typeof from !== 'string') return from;
    const fd = Fd.open(from, { directory: true, path: true });
    open.push(fd);
    return fd;
  };
  try {
    const lowers = lower.map((from) => layer(from, options.idmap));
    const data = dataOnly.map((from) => layer(from, options.idmap));
    const writable = upper && work ? { upper: layer(upper), work: layer(work) } : undefined;
    if (writable && volatileMark(writable.work)) {
      throw new KernelError(22, {
        syscall: 'fsconfig',
        hint: 'a volatile overlay of this writable layer was not ended cleanly: discard the layer, or settleVolatile()',
      });
    }
    using context = fsopen('overlay');
    setLayers(context, 'lowerdir', lowers);
    setLayers(context, 'datadir', data);
    if (writable) {
      setLayer(context, 'upperdir', writable.upper);
      setLayer(context, 'workdir', writable.work);
    }
    for (const [key, value] of parameters) fsconfig(context, key, value ?? true);
    fscommand(context, 'CMD_CREATE');
    return fsmount(context, attributes(options));
  } finally {
    for (const fd of open) fd.close();
  }
}

function setLayers(context: Fd, key: 'lowerdir' | 'datadir', layers: readonly Fd[]): void {
  try {
    for (const fd of layers) setLayer(context, `${key}+`, fd);
  } catch (error) {
    if (!isUnknown(error)) throw error;
    const all = layers.map(proc).join(':');
    if (key === 'datadir' || all.length > MAX_STRING) {
      const reason = `the kernel does not take it, and without it ${MAX_STRING} bytes of layers`;
      throw new UnsupportedError(`${key}+`, reason, { since: '6.8', cause: error });
    }
    fsconfig(context, key, all);
  }
}

/** By descriptor, or before Linux 6.13 by the name that it has in /proc. */
function setLayer(context: Fd, key: string, fd: Fd): void {
  try {
    fsconfig(context, key, fd);
  } catch (error) {
    // Before Linux 6.5 any key with a name is taken, and refused at the end: one that adds must be known by its descriptor.
    const late = KernelError.is(error, 'EBADF', 'EOPNOTSUPP') || (isUnknown(error) && !key.endsWith('+'));
    if (!late) throw error;
    fsconfig(context, key, proc(fd));
  }
}

/** Whether the kernel does not know the parameter, or not as a descriptor. */
function isUnknown(error: unknown): boolean {
  return KernelError.is(error, 'EINVAL') && /unknown parameter|bad value|legacy|^$/i.test(error.kernelMessage ?? '');
}

/** A name of a layer that is short and has no special character. */
function proc(fd: Fd): string {
  return `/proc/self/fd/${fd.number}`;
}
