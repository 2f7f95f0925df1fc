import { isDeepStrictEqual } from 'node:util';

/**
 * One check, one line.
 *
 * @param {string} name - what is claimed
 * @param {() => [unknown, unknown] | Promise<[unknown, unknown]>} look - returns what was seen and what should have been
 */
export async function check(name, look) {
  let why;
  try {
    const [seen, expected] = await look();
    if (!isDeepStrictEqual(seen, expected)) why = `${show(seen)}, not ${show(expected)}`;
  } catch (error) {
    why = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  }
  console.log(why === undefined ? `passed  ${name}` : `FAILED  ${name}: ${why}`);
}

function show(value) {
  return JSON.stringify(value, (_, part) => (typeof part === 'bigint' ? String(part) : (part ?? null)));
}
