import { setImmediate } from 'node:timers/promises';
import type { Fd } from '@iso/sys';
import { checkArgument } from '../file/argument.js';
import { stat } from '../file/stat.js';
import type { DescribeSettings, Place } from '../layer/describe.js';
import type { WhiteoutFormat } from '../layer/whiteout.js';
import { LayerWriter, type PackWarning } from '../layer/writer.js';
import type { ChangedField } from './compare.js';
import { Directories } from './directories.js';
import { View } from './view.js';
import { type Delta, TreeWalk, UpperWalk } from './walk.js';

/** What is compared. */
export type DiffSource =
  | {
      /** Writable layer of a union. Only it is walked, so that the size of the layers below does not matter. */
      upper: string | Fd;
      /** The layers below it, the uppermost first; none where it is the only one. */
      lowers: readonly (string | Fd)[];
      /** How it marks what is gone; default `overlay`. */
      format?: WhiteoutFormat;
      /** The mounted union: needed for layers that were written with metacopy or redirect_dir. */
      merged?: string | Fd;
    }
  | {
      /** A whole tree; undefined for an empty one. */
      before?: string | Fd;
      /** Another one. */
      after: string | Fd;
      /** `stamp` (default) takes files of one size and time of change for equal, `read` compares every byte. */
      content?: 'read' | 'stamp';
    };

/** One file of a {@link Change}. */
export interface ChangedFile {
  type: Place['stat']['type'];
  mode: number;
  uid: number;
  gid: number;
  size: number;
  /** Nanoseconds since 1970. */
  mtime: bigint;
}

/** Something that changed. */
export interface Change {
  /** Its name below the root, as bytes; empty for the root itself. */
  path: Buffer;
  kind: 'add' | 'modify' | 'delete';
  /** What about it changed, where it was modified. */
  fields: ChangedField[];
  before?: ChangedFile;
  after?: ChangedFile;
}

/**
 * What changed: in the writable layer of a union, or between any two trees. Directories come before what is in them, of a deleted
 * directory only itself is told.
 *
 * @param source - what is compared
 * @param options - `signal` gives up
 * @returns changes, one by one
 * @throws KernelError where something cannot be read; `TypeError` for a layer that needs `merged`; the signal's reason
 *
 * @example
 * ```ts
 * import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
 * import { changes } from '@iso/unionfs';
 * const folder = mkdtempSync('/tmp/iso-diff-');
 * for (const name of ['a', 'b']) mkdirSync(`${folder}/${name}`);
 * writeFileSync(`${folder}/b/new`, 'hello');
 * const found: string[] = [];
 * for await (const change of changes({ before: `${folder}/a`, after: `${folder}/b` })) {
 *   if (change.path.length) found.push(`${change.kind} ${change.path}`);
 * }
 * rmSync(folder, { recursive: true });
 * if (found.join() !== 'add new') throw new Error(found.join());
 * ```
 */
export async function* changes(
  source: DiffSource,
  options: { signal?: AbortSignal } = {},
): AsyncGenerator<Change, void, undefined> {
  let turn = performance.now();
  for (const { path, kind, fields, before, after } of deltas(source)) {
    // The walk itself waits for nothing, so it lets others run now and then.
    if (performance.now() - turn > 20) {
      await setImmediate();
      turn = performance.now();
    }
    options.signal?.throwIfAborted();
    yield { path, kind, fields, ...(before ? { before: file(before) } : {}), ...(after ? { after: file(after) } : {}) };
  }
}

/** How {@link writeLayer} describes files. */
export interface WriteLayerOptions extends DescribeSettings {
  /** Told what was left out. */
  onWarning?: (warning: PackWarning) => void;
}

/**
 * The changes as a layer's archive: what is gone as whiteouts, and the directories that changes lie in with their own attributes,
 * so that the layer is right by itself. The same changes always give the same bytes.
 *
 * @param source - what is compared
 * @param options - ids, epoch
 * @returns the archive's bytes, as they are asked for
 * @throws as {@link changes}; ArchiveError `ERR_ARCHIVE_WHITEOUT` for a file whose name is a whiteout
 */
export function* writeLayer(source: DiffSource, options: WriteLayerOptions = {}): Generator<Buffer, void, undefined> {
  const { onWarning, ...settings } = options;
  const writer = new LayerWriter(settings, { layer: true, ...(onWarning ? { warn: onWarning } : {}) });
  const written = new Set<string>();
  for (const { path, after, parents } of deltas(source)) {
    for (const parent of parents) {
      const key = parent.path.toString('latin1');
      if (written.has(key)) continue;
      written.add(key);
      yield* writer.file(parent.place, parent.path.length ? parent.path : DOT);
    }
    if (!after) yield writer.whiteout(path);
    else {
      if (after.stat.type === 'directory') written.add(path.toString('latin1'));
      yield* writer.file(after, path.length ? path : DOT);
    }
  }
  yield writer.end();
}

const DOT = Buffer.from('.');

function* deltas(source: DiffSource): Generator<Delta, void, undefined> {
  checkArgument('source', source, 'options: { … }');
  using directories = new Directories();
  if ('upper' in source) {
    const { format = 'overlay' } = source;
    const below = new View(source.lowers.map(directories.open), format, false);
    const merged = source.merged === undefined ? undefined : directories.open(source.merged);
    yield* new UpperWalk(format, merged).walk(below, directories.open(source.upper));
    return;
  }
  const view = (from: string | Fd | undefined) =>
    new View(from === undefined ? [] : [directories.open(from)], undefined, false);
  const [before, after] = [view(source.before), view(source.after)];
  const walk = new TreeWalk(source.content ?? 'stamp');
  const root = (fd: number | undefined): Place | undefined =>
    fd === undefined ? undefined : { directory: fd, name: DOT, stat: stat(fd, DOT) };
  const [path, now] = [Buffer.alloc(0), root(after.directories[0]) as Place];
  yield* walk.changed(root(before.directories[0]), now, path);
  walk.push(path, now);
  yield* walk.walk(before, after);
}

function file({ stat }: Place): ChangedFile {
  const { type, mode, uid, gid, size, mtime } = stat;
  return { type, mode, uid, gid, size, mtime };
}
