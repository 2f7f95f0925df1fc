import type { SparsePart } from './entry.js';
import { ArchiveError } from './error.js';
import { parseDecimal, parseNumber } from './number.js';

/** Parts of a sparse file while its map is being read; maps are long before they are useful. */
const MAX_PARTS = 1 << 20;

/**
 * Checks a sparse map: parts in order, none over another, none beyond the end; their lengths are what the archive holds.
 *
 * @param parts - offset and length in turn
 * @param size - of the file
 * @param stored - bytes in the archive
 * @returns the parts that hold data
 * @throws {@link ArchiveError} `ERR_ARCHIVE_HEADER`
 */
export function checkSparse(parts: readonly number[], size: number, stored: number): SparsePart[] {
  const bad = (what: string) => new ArchiveError('ERR_ARCHIVE_HEADER', `a sparse map is malformed: ${what}`);
  if (parts.length % 2) throw bad('an offset without a length');
  const map: SparsePart[] = [];
  let end = 0;
  let sum = 0;
  for (let i = 0; i < parts.length; i += 2) {
    const offset = parts[i] as number;
    const length = parts[i + 1] as number;
    if (offset < end || length < 0) throw bad('parts overlap');
    end = offset + length;
    if (!Number.isSafeInteger(end) || end > size) throw bad('a part lies beyond the end');
    sum += length;
    if (length) map.push({ offset, length });
  }
  if (sum !== stored) throw bad('it does not cover the data');
  return map;
}

/**
 * Reads the pairs of a block of GNU's own sparse headers.
 *
 * @param block - 512 bytes
 * @param at - where the pairs begin
 * @param count - how many there may be
 * @param parts - where they go
 */
export function readPairs(block: Uint8Array, at: number, count: number, parts: number[]): void {
  for (let i = 0; i < count; i++) {
    const place = at + 24 * i;
    if (block[place] === 0) return;
    if (parts.length >= 2 * MAX_PARTS) throw new ArchiveError('ERR_ARCHIVE_LIMIT', 'a sparse map is too long');
    parts.push(parseNumber(block, place, 12), parseNumber(block, place + 12, 12));
  }
}

/** Reads the map of the sparse format 1.0, which stands before the data as decimal lines. */
export class MapReader {
  readonly parts: number[] = [];
  #text = '';
  #wanted: number | undefined;

  /**
   * Takes the next block.
   *
   * @param block - 512 bytes
   * @returns whether the map is complete
   * @throws {@link ArchiveError} `ERR_ARCHIVE_HEADER`, `ERR_ARCHIVE_LIMIT`
   */
  block(block: Buffer): boolean {
    const lines = (this.#text + block.toString('latin1')).split('\n');
    this.#text = lines.pop() as string;
    for (const line of lines) {
      const number = parseDecimal(line, 'a line of a sparse map');
      if (this.#wanted === undefined) {
        if (number > MAX_PARTS) throw new ArchiveError('ERR_ARCHIVE_LIMIT', 'a sparse map is too long');
        this.#wanted = 2 * number;
      } else this.parts.push(number);
      if (this.parts.length === this.#wanted) return true;
    }
    if (this.#text.length > 20) throw new ArchiveError('ERR_ARCHIVE_HEADER', 'a sparse map is malformed: no lines');
    return false;
  }
}
