import { readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import type { IdRange } from './idmap.js';

/** A line of /etc/subuid or /etc/subgid, see subuid(5). */
export interface SubordinateRange {
  /** Login name or numeric id. */
  owner: string;
  start: number;
  count: number;
}

/**
 * Parses /etc/subuid or /etc/subgid.
 *
 * @param text - its content; lines that are no ranges are passed over, as newuidmap(1) does
 * @returns its ranges
 */
export function parseSubordinateIds(text: string): SubordinateRange[] {
  return [...text.matchAll(/^([^:#\n]+):(\d+):(\d+)$/gm)].map((match) => {
    return { owner: match[1] as string, start: Number(match[2]), count: Number(match[3]) };
  });
}

/**
 * The ranges of this process's user in a file like /etc/subuid.
 *
 * @param path - the file; there are none where it is missing
 * @returns those whose owner is the user, by name or number
 */
export function subordinateIds(path: '/etc/subuid' | '/etc/subgid'): SubordinateRange[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    return [];
  }
  const owners = [String(process.getuid?.()), userName()];
  return parseSubordinateIds(text).filter(({ owner }) => owners.includes(owner));
}

function userName(): string | undefined {
  try {
    return userInfo().username;
  } catch {
    return undefined;
  }
}

/**
 * A map of everything that a user has: its own id is 0 inside, its subordinate ids follow from 1 on. An id that several
 * ranges hold, or that is the user's own, counts once.
 *
 * @param id - the user's own
 * @param ranges - its subordinate ids, in any order
 * @returns ranges that overlap on neither side, without a hole inside
 */
export function subordinateMap(id: number, ranges: readonly { start: number; count: number }[]): IdRange[] {
  const map: IdRange[] = [{ inside: 0, outside: id, count: 1 }];
  let inside = 1;
  const add = (outside: number, end: number) => {
    if (end <= outside) return;
    map.push({ inside, outside, count: end - outside });
    inside += end - outside;
  };
  let from = 0;
  for (const { start, count } of [...ranges].sort((a, b) => a.start - b.start)) {
    const [first, end] = [Math.max(start, from), start + count];
    if (id >= first && id < end) {
      add(first, id);
      add(id + 1, end);
    } else add(first, end);
    from = Math.max(from, end);
  }
  return map;
}
