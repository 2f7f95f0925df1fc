const LONGEST = 64;
const MOST = 3;

/**
 * Names that somebody may have meant who gave another one: those of the same repository, and those that are one or two letters off.
 *
 * @param name - that nothing has
 * @param names - that there are
 * @returns the nearest first
 */
export function nearNames(name: string, names: Iterable<string>): string[] {
  const wanted = shortName(name);
  const off = wanted.length > 4 ? 2 : 1;
  return [...new Set(names)]
    .map((each) => ({ each, distance: distanceOf(wanted, shortName(each)) }))
    .filter(({ distance }) => distance <= off)
    .sort((a, b) => a.distance - b.distance)
    .slice(0, MOST)
    .map(({ each }) => each);
}

/** `debian` of `docker.io/library/debian:12`. */
function shortName(name: string): string {
  const [path = ''] = name.split('@');
  return path
    .slice(path.lastIndexOf('/') + 1)
    .replace(/:.*/s, '')
    .slice(0, LONGEST);
}

/** Letters to change, to add or to leave out until one word is the other (Levenshtein). */
function distanceOf(a: string, b: string): number {
  let above = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const other = (above[j - 1] as number) + Number(a[i - 1] !== b[j - 1]);
      row.push(Math.min(other, (above[j] as number) + 1, (row[j - 1] as number) + 1));
    }
    above = row;
  }
  return above[b.length] as number;
}
