import { attributes, fscommand, fsconfig, fsmount, fsopen, type MountFlags, MountTree } from '@iso/mounts';
import { Fd, invalid, KernelError, UnsupportedError } from '@iso/sys';
import { procPath } from '../file/call.js';
import { mountAttached } from './attached.js';
import { mountByNames, type NamedLayers } from './named.js';
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

/**
 * Mounts an overlay and holds it by its descriptor: it is in no mount namespace until somebody attaches it (move_mount(2)), in
 * whichever namespace, and gone when the descriptor is closed. Layers are passed as descriptors (Linux 6.13), before that by
 * their names in /proc/self/fd: no character of a path means anything, no length matters. Before Linux 6.8, and before 6.15 for
 * id-mapped layers, a child mounts it in a mount namespace of its own: the writable layer must then be attached in this
 * process's namespace, and its path fit into what mount(2) reads.
 *
 * Needs CAP_SYS_ADMIN over this process's mount namespace.
 *
 * @param options - layers and features
 * @returns the detached mount
 * @throws KernelError with the kernel's own reason; `EINVAL` for a writable layer that a volatile overlay left unclean;
 * UnsupportedError where this kernel cannot take these layers; `TypeError` for layers that make no overlay
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
  const named = namedLayers(options);
  const quick = named && mountByNames(named, parameters, attributes(options));
  if (quick) return quick;
  const open: { close(): void }[] = [];
  const keep = <T extends { close(): void }>(opened: T): T => {
    open.push(opened);
    return opened;
  };
  const directory = (from: string | Fd): Fd =>
    typeof from === 'string' ? keep(Fd.open(from, { directory: true, path: true })) : from;
  const clone = (from: string | Fd): Fd =>
    keep(MountTree.clone(typeof from === 'string' ? from : procPath(from.number), mapping)).fd;
  const mapping = options.idmap ? { idmap: options.idmap } : {};
  try {
    const layer = options.idmap ? clone : directory;
    const layers = {
      lower: lower.map(layer),
      data: dataOnly.map(layer),
      writable: upper && work ? { upper: directory(upper), work: directory(work) } : undefined,
      mapped: options.idmap !== undefined,
    };
    if (layers.writable && volatileMark(layers.writable.work)) {
      throw new KernelError(22, {
        syscall: 'fsconfig',
        hint: 'a volatile overlay of this writable layer was not ended cleanly: discard the layer, or settleVolatile()',
      });
    }
    const mount = mountByContext(layers, parameters, attributes(options));
    if (mount) return mount;
    const attached = layers.mapped ? {} : { lower: lower.map(clone), data: dataOnly.map(clone) };
    return mountAttached({ ...layers, ...attached }, parameters, attributes(options));
  } finally {
    for (const fd of open) fd.close();
  }
}

/** Layers that can be told to the kernel by their paths alone. */
function namedLayers({ lower, dataOnly = [], upper, work, idmap }: OpenOverlayOptions): NamedLayers | undefined {
  const isPath = (layer: string | Fd): layer is string => typeof layer === 'string';
  if (idmap || dataOnly.length || !lower.every(isPath)) return undefined;
  if (upper === undefined || work === undefined) return { lower, writable: undefined };
  return isPath(upper) && isPath(work) ? { lower, writable: { upper, work } } : undefined;
}

/** The layers of an overlay, open. */
interface Layers {
  lower: readonly Fd[];
  data: readonly Fd[];
  writable: { upper: Fd; work: Fd } | undefined;
  /** The lower ones are mounts of their own. */
  mapped: boolean;
}

/** By fsconfig(2); undefined where the kernel is too old for these layers. */
function mountByContext(
  { lower, data, writable, mapped }: Layers,
  parameters: readonly [key: string, value: string | null][],
  attr: number,
): Fd | undefined {
  using context = fsopen('overlay');
  try {
    for (const fd of lower) setLayer(context, 'lowerdir+', fd);
    for (const fd of data) setLayer(context, 'datadir+', fd);
    if (writable) {
      setLayer(context, 'upperdir', writable.upper);
      setLayer(context, 'workdir', writable.work);
    }
  } catch (error) {
    if (!isOld(error)) throw error;
    if (data.length === 0 || !KernelError.is(error, 'EOPNOTSUPP')) return undefined;
    throw new UnsupportedError('layers of data only', 'the kernel has none', { since: '6.5', cause: error });
  }
  for (const [key, value] of parameters) fsconfig(context, key, value ?? true);
  try {
    fscommand(context, 'CMD_CREATE');
  } catch (error) {
    // Before Linux 6.15 a detached mount is no layer; the words on that go to the kernel's log.
    if (KernelError.is(error, 'EINVAL') && mapped && !error.kernelMessage) return undefined;
    throw error;
  }
  return fsmount(context, attr);
}

/** By descriptor, or before Linux 6.13 by the name that it has in /proc. */
function setLayer(context: Fd, key: string, fd: Fd): void {
  try {
    fsconfig(context, key, fd);
  } catch (error) {
    if (isOld(error) || !KernelError.is(error, 'EINVAL', 'EBADF')) throw error;
    fsconfig(context, key, procPath(fd.number));
  }
}

/** Linux 6.7 does not know the key, 6.4 no descriptors in a file system of the old kind. */
function isOld(error: unknown): boolean {
  if (KernelError.is(error, 'EOPNOTSUPP')) return true;
  return KernelError.is(error, 'EINVAL') && /unknown parameter/i.test(error.kernelMessage ?? '');
}
