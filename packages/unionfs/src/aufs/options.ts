import { invalid } from '@iso/sys';

/** Branches that aufs takes when it is built with its largest numbers. */
const MAX_BRANCHES = 32767;

/**
 * Options of mount(2) for a union of aufs, see aufs(5): what one call holds, and remounts that append the rest.
 *
 * @param branches - names of directories, the uppermost first; no `:`, `,` or `=` in them: aufs has no escapes
 * @param options - `writable`: the first one is; `most`: bytes that one call takes
 * @returns options of the mount, then those of remounts
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for no branch, too many, or a name that aufs would read otherwise
 */
export function aufsOptions(
  branches: readonly string[],
  { writable, most }: { writable: boolean; most: number },
): string[] {
  if (branches.length === 0 || branches.length > MAX_BRANCHES) {
    throw invalid(`aufs unites 1 to ${MAX_BRANCHES} branches, not ${branches.length}`);
  }
  const calls: string[] = [];
  // Whiteouts of a read-only branch count only where that is said.
  const described = branches.map((name, i) => {
    if (!name || /[:,=]/.test(name)) throw invalid(`aufs reads this name otherwise: ${JSON.stringify(name)}`);
    return `${name}=${i === 0 && writable ? 'rw' : 'ro+wh'}`;
  });
  // Without a writable branch there is no place for the table of inode numbers.
  let call = `${writable ? '' : 'noxino,'}br=${described[0]}`;
  for (const branch of described.slice(1)) {
    const word = calls.length === 0 ? `:${branch}` : `,append=${branch}`;
    if (call.length + word.length <= most) call += word;
    else {
      calls.push(call);
      call = `append=${branch}`;
    }
  }
  return [...calls, call];
}
