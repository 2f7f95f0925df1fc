import { invalid } from '@iso/sys';

/** A range of ids: `count` ids from `inside` on stand for those from `outside` on; see user_namespaces(7). */
export interface IdRange {
  inside: number;
  outside: number;
  count: number;
}

const MAX_RANGES = 340;
const MAX_BYTES = 4096;
const END = 2 ** 32;

/**
 * The text of a uid_map or gid_map file.
 *
 * @param ranges - 1 to 340, not overlapping on either side
 * @returns one line a range
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what the kernel would refuse with a bare EINVAL
 */
export function idMapText(ranges: readonly IdRange[]): string {
  if (!Array.isArray(ranges)) throw invalid('an id map is an array of ranges: uidMap and gidMap, both');
  if (ranges.length === 0 || ranges.length > MAX_RANGES)
    throw invalid(`an id map has 1 to ${MAX_RANGES} ranges, not ${ranges.length}`);
  for (const { inside, outside, count } of ranges) {
    const good = [inside, outside, count].every((value) => Number.isInteger(value) && value >= 0 && value < END);
    if (!good || count === 0 || inside + count > END - 1 || outside + count > END - 1) {
      throw invalid(`not a range of ids: ${JSON.stringify({ inside, outside, count })}`);
    }
  }
  for (const side of ['inside', 'outside'] as const) {
    const sorted = [...ranges].sort((a, b) => a[side] - b[side]);
    for (const [i, range] of sorted.entries()) {
      const next = sorted[i + 1];
      if (next && range[side] + range.count > next[side])
        throw invalid(`ranges of an id map overlap ${side}: ${next[side]}`);
    }
  }
  const text = ranges.map(({ inside, outside, count }) => `${inside} ${outside} ${count}\n`).join('');
  if (text.length >= MAX_BYTES) throw invalid('an id map is less than 4096 bytes long');
  return text;
}

/**
 * Parses a uid_map or gid_map file.
 *
 * @param text - its content
 * @returns its ranges
 */
export function parseIdMap(text: string): IdRange[] {
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const [inside = 0, outside = 0, count = 0] = line.trim().split(/\s+/).map(Number);
      return { inside, outside, count };
    });
}
