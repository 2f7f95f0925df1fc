import type { Fd } from '@iso/sys';
import type { DiffSource } from '../diff/changes.js';
import type { ExtractFormat } from '../layer/extract.js';

/** How a storage driver is called. */
export type DriverName = 'overlay2' | 'btrfs' | 'zfs' | 'devicemapper' | 'aufs' | 'fuse-overlayfs' | 'vfs';

/**
 * A way to keep layers on disk. A driver knows directories of layers by id, and nothing of images, names or who uses what: which
 * layers lie below is told in each call, the uppermost first. Ids are names of directories. Calls of two processes for one id at
 * once are the caller's to prevent.
 */
export interface Driver {
  readonly name: DriverName;
  /** What its directories are to an archive that is unpacked there. */
  readonly format: Extract<ExtractFormat, 'overlay' | 'userxattr' | 'aufs' | 'plain'>;
  /**
   * Makes a new layer: empty, or a copy of the layers below where the driver has no union.
   *
   * @param id - of the layer
   * @param parents - below it
   * @throws KernelError `EEXIST` where there is one of that id; what it made is removed when it fails
   */
  create(id: string, parents: readonly string[]): void;
  /**
   * Where a layer's archive is unpacked.
   *
   * @param id - of the layer
   * @returns its directory
   */
  directory(id: string): string;
  /**
   * Mounts a layer on those below it, attached nowhere.
   *
   * @param id - of the layer
   * @param parents - below it
   * @param options - `readonly`; a writable one must be the only mount of its layer
   * @returns the detached mount
   */
  open(id: string, parents: readonly string[], options?: { readonly?: boolean }): Fd;
  /**
   * What is compared for the changes that a layer made.
   *
   * @param id - of the layer
   * @param parents - below it
   * @returns for `changes()` and `writeLayer()`
   */
  diff(id: string, parents: readonly string[]): DiffSource;
  /**
   * Makes a layer that an archive was unpacked in right for those below it: directories like those which they hide, as far as the archive
   * did not say what they are; and a whiteout for each name where it has a mark that hides all in its root, which unions do not look at.
   * Optional: who has no such method makes layers that are copies of those below, which must be known first. Others take layers that were made
   * on none.
   *
   * @param id - of the layer
   * @param parents - below it, from now on
   * @param directories - what `unpackLayer()` answers as `implied`
   */
  adopt?(id: string, parents: readonly string[], directories: readonly Buffer[]): void;
  /**
   * Lets go of what `directory()` and `diff()` hold open of a layer, where the driver has to mount for them; they hold it until the
   * driver is disposed else. Optional: who has nothing open has no such method.
   *
   * @param id - of the layer
   */
  release?(id: string): void;
  /**
   * Removes a layer that nothing uses any more.
   *
   * @param id - of the layer; where there is none, nothing happens
   * @throws KernelError `EBUSY` where something is mounted in it
   */
  remove(id: string): void;
}
