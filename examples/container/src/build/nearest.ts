/**
 * The word that somebody meant who mistyped it: two letters changed places, or one is wrong, missing or too much.
 *
 * @param word - as it was typed
 * @param words - that there are
 * @returns the first such word, if any
 */
export function nearest(word: string, words: readonly string[]): string | undefined {
  return words.find((one) => isMistyped(word, one));
}

function isMistyped(a: string, b: string): boolean {
  let start = 0;
  while (start < a.length && a[start] === b[start]) start++;
  const [restA, restB] = [a.slice(start), b.slice(start)];
  const swapped = `${restA[1] ?? ''}${restA[0] ?? ''}${restA.slice(2)}`;
  return swapped === restB || restA.slice(1) === restB.slice(1) || restA === restB.slice(1) || restA.slice(1) === restB;
}
