import { invalid } from '@iso/sys';

/** A range of ids: `inside` is what the image, the archive or the container sees, `outside` what the disk has. */
export interface IdRange {
  inside: number;
  outside: number;
  count: number;
}

/** Users and groups, each in ranges. */
export interface IdMaps {
  uid: readonly IdRange[];
  gid: readonly IdRange[];
}

/**
 * An id on disk.
 *
 * @param ranges - a map
 * @param id - as the archive has it
 * @returns the id on disk
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) where no range has it
 */
export function mapId(ranges: readonly IdRange[], id: number): number {
  for (const { inside, outside, count } of ranges) {
    if (id >= inside && id < inside + count) return outside + id - inside;
  }
  throw invalid(`no range of the id map has ${id}`);
}

/**
 * The opposite of {@link mapId}.
 *
 * @param ranges - a map
 * @param id - on disk
 * @returns the id as the archive has it
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) where no range has it
 */
export function unmapId(ranges: readonly IdRange[], id: number): number {
  for (const { inside, outside, count } of ranges) {
    if (id >= outside && id < outside + count) return inside + id - outside;
  }
  throw invalid(`no range of the id map has ${id} outside`);
}
