import { readFileSync } from 'node:fs';
import { attempt } from '@iso/sys';

const MADV_DONTNEED = 4;

/**
 * Gives memory back that was needed to start a container and will hardly be needed until its end: garbage, and this process's view of
 * the files that it runs from. What of them is used again is found in the page cache, see madvise(2).
 */
export function lighten(): void {
  (globalThis as { gc?: () => void }).gc?.();
  for (const { start, end } of unchangedFiles(readFileSync('/proc/self/smaps', 'utf8')))
    attempt('madvise', start, Number(end - start), MADV_DONTNEED);
}

/** Mappings of files that cannot be written, and of which nothing was: relocations make pages that no file has. */
export function unchangedFiles(smaps: string): { start: bigint; end: bigint }[] {
  return smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m).flatMap((text) => {
    const [, start, end, permissions, path] = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \S+ +(\/.*)$/m.exec(text) ?? [];
    if (!path || permissions?.includes('w') || !/^Anonymous: +0 kB$/m.test(text)) return [];
    return [{ start: BigInt(`0x${start}`), end: BigInt(`0x${end}`) }];
  });
}
