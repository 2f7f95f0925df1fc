/** What a snapshot is: a container's writable one, a read-only look at a committed one, or one that never changes any more. */
export type SnapshotKind = 'active' | 'view' | 'committed';

/** What a writable layer may hold at the most. */
export interface Quota {
  /** Bytes, at least a mebibyte. What the file system keeps for itself counts. */
  bytes: number;
  /** Files and directories; default what fits. */
  inodes?: number;
}

/** What is written down of a snapshot, one file each. */
export interface SnapshotRecord {
  version: 1;
  name: string;
  kind: SnapshotKind;
  /** Its layer; a view of something has none of its own, but this is who uses it. */
  layer: string;
  /** Name of the snapshot below. */
  parent: string | null;
  /** Layers below, the uppermost first. */
  below: string[];
  labels: Record<string, string>;
  /** ISO 8601. */
  created: string;
  updated: string;
  /** Its layer is not complete yet. */
  preparing?: true;
  /** It goes when the process that made it does. */
  temporary?: true;
  /** What lies below is told when it is committed. */
  late?: true;
  /** Its layer is in a file system of its own. */
  quota?: Quota;
}

const LAYER = /^[0-9a-z]{8,32}$/;

/**
 * Reads a record, and believes nothing.
 *
 * @param text - of the file
 * @returns the record, or what is wrong
 */
export function parseRecord(text: string): SnapshotRecord | string {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return text.length === 0 ? 'the record is empty' : 'the record is no JSON';
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return 'the record is no object';
  const it = value as Partial<Record<keyof SnapshotRecord, unknown>>;
  if (it.version !== 1) return `the record is of version ${String(it.version)}, this is 1`;
  const strings = ['name', 'layer', 'created', 'updated'] as const;
  for (const key of strings) if (typeof it[key] !== 'string' || it[key] === '') return `the record has no ${key}`;
  if (it.kind !== 'active' && it.kind !== 'view' && it.kind !== 'committed') return 'the record has no kind';
  if (it.parent !== null && typeof it.parent !== 'string') return 'the record has no parent';
  const layers = [it.layer, ...(Array.isArray(it.below) ? (it.below as unknown[]) : [''])];
  if (!layers.every((id) => typeof id === 'string' && LAYER.test(id))) return 'the record names no layers';
  if ((it.parent === null) !== (layers.length === 1))
    return 'the record has a parent and no layers, or layers and no parent';
  if (typeof it.labels !== 'object' || it.labels === null) return 'the record has no labels';
  if (!Object.values(it.labels).every((label) => typeof label === 'string')) return 'a label is no text';
  if (it.quota !== undefined && !isQuota(it.quota)) return 'the record has no such quota';
  for (const key of ['created', 'updated'] as const) {
    if (Number.isNaN(Date.parse(it[key] as string))) return `the record's ${key} is no time`;
  }
  return value as SnapshotRecord;
}

/**
 * Whether something is a quota that can be kept.
 *
 * @param value - anything
 * @returns whether it is
 */
export function isQuota(value: unknown): value is Quota {
  if (typeof value !== 'object' || value === null) return false;
  const { bytes, inodes } = value as Partial<Record<keyof Quota, unknown>>;
  if (typeof bytes !== 'number' || !Number.isSafeInteger(bytes) || bytes < 1 << 20 || bytes > 2 ** 43) return false;
  return (
    inodes === undefined ||
    (typeof inodes === 'number' && Number.isSafeInteger(inodes) && inodes > 0 && inodes < 2 ** 32)
  );
}
