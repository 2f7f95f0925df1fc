/**
 * Union file systems, layers and images.
 *
 * @packageDocumentation
 */
export { type Compression, compressor, decompress, detectCompression } from './compression/compression.js';
export {
  type Change,
  type ChangedFile,
  changes,
  type DiffSource,
  type WriteLayerOptions,
  writeLayer,
} from './diff/changes.js';
export type { ChangedField } from './diff/compare.js';
export { btrfs } from './driver/btrfs.js';
export type { Driver, DriverName } from './driver/driver.js';
export { overlay2 } from './driver/overlay2.js';
export { type DriverProbe, openDriver, probeDrivers } from './driver/probe.js';
export { vfs } from './driver/vfs.js';
export type { IdMaps, IdRange } from './file/idmap.js';
export { copyTree } from './layer/copy.js';
export type { ExtractFormat, ExtractSettings, ExtractWarning } from './layer/extract.js';
export { Extractor } from './layer/extract.js';
export { type PackOptions, packTree } from './layer/pack.js';
export { type UnpackOptions, unpackLayer } from './layer/unpack.js';
export type { Expected, Unpacked, UnpackProgress, UnpackSettings } from './layer/unpacker.js';
export type { WhiteoutFormat } from './layer/whiteout.js';
export type { PackWarning } from './layer/writer.js';
export { type OpenOverlayOptions, openOverlay } from './overlay/mount.js';
export { type OverlayOptions, overlay } from './overlay/overlay.js';
export type { OverlayFeatures } from './overlay/parameters.js';
export { type PatchworkOptions, patchwork } from './overlay/patchwork.js';
export { settleVolatile } from './overlay/volatile.js';
export type { EntryType, SparsePart, TarEntry } from './tar/entry.js';
export { ArchiveError, type ArchiveErrorCode } from './tar/error.js';
export { type TarHandler, type TarLimits, TarParser } from './tar/parser.js';
export { type ArchivedEntry, readTar } from './tar/read.js';
export { tarEnd, tarHeader, tarPadding } from './tar/writer.js';
