import type { Fd } from '@iso/sys';
import type { Quota, SnapshotKind, SnapshotRecord } from './record.js';

/** What is known of a snapshot. */
export interface Snapshot {
  name: string;
  kind: SnapshotKind;
  /** The snapshot below; none for a lowest one. */
  parent?: string;
  /** Layers that lie below. */
  depth: number;
  /** Id of its layer in the driver; a view of something shows the layer of its parent. */
  layer: string;
  labels: Readonly<Record<string, string>>;
  created: Date;
  /** When its labels changed last, or it was committed. */
  updated: Date;
  /** It goes when the process that prepared it does. */
  temporary: boolean;
  /** What its layer may hold at the most. */
  quota?: Quota;
}

/**
 * A snapshot that is mounted here, by its descriptor: attach it (`moveMount()` of `@iso/mounts`), pass it to a launch, or look at it
 * under `/proc/self/fd`. Disposing it unmounts what was attached nowhere, and gives the snapshot free.
 */
export interface SnapshotMount extends Disposable {
  /** The mount, attached nowhere. */
  readonly fd: Fd;
  /**
   * Says to all processes that the snapshot is in use, as long as any descriptor of it is open. Pass it on to whoever keeps the mount
   * when this process has ended.
   */
  readonly hold: Fd;
  readonly readonly: boolean;
  /** Closes both; again does nothing. */
  close(): void;
}

/** A snapshot that is mounted on a directory. Disposing it unmounts it there, and gives the snapshot free. */
export interface AttachedSnapshot extends Disposable {
  readonly target: string;
  /** As that of {@link SnapshotMount}. */
  readonly hold: Fd;
  readonly readonly: boolean;
  /** Unmounts it, whoever works in it, and gives it free; again does nothing. */
  close(): void;
}

/** The layer of an active snapshot, to unpack an archive in. Disposing it gives the snapshot free. */
export interface OpenLayer extends Disposable {
  /** A directory of this process, good as long as this is open. */
  readonly directory: string;
  /** For `unpackLayer()`. */
  readonly format: 'overlay' | 'userxattr' | 'aufs' | 'plain';
  /** For `unpackLayer()`: nothing lies below. */
  readonly base: boolean;
  /** Gives it free; again does nothing. */
  close(): void;
}

/** What of a record everybody may know. */
export function describeRecord(record: SnapshotRecord): Snapshot {
  const { name, kind, parent, below, layer, labels, created, updated, temporary = false, quota } = record;
  return {
    name,
    kind,
    ...(parent === null ? {} : { parent }),
    depth: below.length,
    layer,
    labels: { ...labels },
    created: new Date(created),
    updated: new Date(updated),
    temporary,
    ...(quota ? { quota: { ...quota } } : {}),
  };
}
