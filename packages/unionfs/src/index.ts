/**
 * Union file systems, layers and images.
 *
 * @packageDocumentation
 */
export { buildImage } from './build/build.js';
export type { BuildExecutor, BuildRun } from './build/execute.js';
export type { BuildContext, BuildEvent, BuildOptions } from './build/options.js';
export type {
  AddStep,
  BuildScope,
  BuildStage,
  BuildStep,
  CopyStep,
  InlineFile,
  PlaceOptions,
  RunStep,
  StepOrigin,
  StepSource,
} from './build/step.js';
export { type Compression, compressor, decompress, detectCompression } from './compression/compression.js';
export { ContentStore, type ContentStoreOptions, type WriteBlobOptions } from './content/content-store.js';
export { ImageError, type ImageErrorFields, type ImageErrorReason } from './content/error.js';
export type { Blob, Ingest, IngestOptions } from './content/ingest.js';
export {
  type Change,
  type ChangedFile,
  changes,
  type DiffSource,
  type WriteLayerOptions,
  writeLayer,
} from './diff/changes.js';
export type { ChangedField } from './diff/compare.js';
export { aufs } from './driver/aufs.js';
export { btrfs } from './driver/btrfs.js';
export { type DevicemapperOptions, devicemapper } from './driver/devicemapper.js';
export type { Driver, DriverName } from './driver/driver.js';
export { fuseOverlayfs } from './driver/fuse-overlayfs.js';
export { overlay2 } from './driver/overlay2.js';
export { type DriverOptions, type DriverProbe, openDriver, probeDrivers } from './driver/probe.js';
export type { UnionOptions } from './driver/union.js';
export { vfs } from './driver/vfs.js';
export { type ZfsOptions, zfs } from './driver/zfs.js';
export type { IdMaps, IdRange } from './file/idmap.js';
export type { ImageLimits, ImageProgress, UnpackInto } from './image/admit.js';
export {
  type CommitImageOptions,
  commitImage,
  type NewLayer,
  type WriteLayerBlobOptions,
  writeImage,
  writeLayerBlob,
} from './image/compose.js';
export type {
  Descriptor,
  Healthcheck,
  HistoryEntry,
  ImageConfig,
  ImageIndex,
  ImageManifest,
  Platform,
  RunConfig,
} from './image/document.js';
export { copyImage, type Exported, type ExportOptions, exportImages } from './image/export.js';
export { chainIds, type Image, type ImageLayer, type LayerProgress } from './image/image.js';
export { type ImageFormat, type Imported, type ImportOptions, importImages } from './image/import.js';
export { ImageLayout, type LayoutOptions, type NamedImage } from './image/layout.js';
export { formatPlatform, hostPlatform, parsePlatform } from './image/platform.js';
export { formatReference, parseReference, type Reference } from './image/reference.js';
export { type UnpackImageOptions, unpackImage } from './image/unpack.js';
export { copyTree } from './layer/copy.js';
export type { ExtractFormat, ExtractSettings, ExtractWarning } from './layer/extract.js';
export { Extractor } from './layer/extract.js';
export { type PackOptions, type PackPathOptions, packPath, packTree } from './layer/pack.js';
export { LayerThread } from './layer/thread.js';
export { type UnpackOptions, unpackLayer } from './layer/unpack.js';
export type { Expected, Unpacked, UnpackProgress, UnpackSettings } from './layer/unpacker.js';
export type { WhiteoutFormat } from './layer/whiteout.js';
export type { PackWarning } from './layer/writer.js';
export { type OpenOverlayOptions, openOverlay } from './overlay/mount.js';
export { type OverlayOptions, overlay } from './overlay/overlay.js';
export type { OverlayFeatures } from './overlay/parameters.js';
export { type PatchworkOptions, patchwork } from './overlay/patchwork.js';
export { settleVolatile } from './overlay/volatile.js';
export { type CredentialSource, type Credentials, dockerCredentials } from './registry/credentials.js';
export { Registry, type RegistryOptions } from './registry/registry.js';
export { type PullOptions, type PushOptions, pullImage, pushImage } from './registry/transfer.js';
export type { Problem, ProblemKind } from './store/check.js';
export type { CombineOptions } from './store/combine.js';
export type { CommitOptions } from './store/commit.js';
export { StoreError, type StoreReason } from './store/error.js';
export type { Lease } from './store/lease.js';
export type { NamedLock } from './store/lock.js';
export { type OwnDriver, openStore, type StoreOptions } from './store/open-store.js';
export type { PrepareOptions } from './store/prepare.js';
export type { Quota, SnapshotKind } from './store/record.js';
export type { Collected } from './store/remove.js';
export type { AttachedSnapshot, OpenLayer, Snapshot, SnapshotMount } from './store/snapshot.js';
export type { Durability } from './store/state.js';
export type { SnapshotFilter, Store } from './store/store.js';
export type { Usage } from './store/usage.js';
export type { EntryType, SparsePart, TarEntry } from './tar/entry.js';
export { ArchiveError, type ArchiveErrorCode } from './tar/error.js';
export { type TarHandler, type TarLimits, TarParser } from './tar/parser.js';
export { type ArchivedEntry, readTar } from './tar/read.js';
export { tarEnd, tarHeader, tarPadding } from './tar/writer.js';
