import { failureCode } from '../exitcode.js';
import { complain, say } from '../say.js';

/**
 * Does the same to several containers, and prints each that it was done to: what is wrong with one keeps the others from nothing.
 *
 * @param words - names or ids, as typed
 * @param act - what is done; what it returns is printed in place of the name
 */
export async function each(words: readonly string[], act: (word: string) => unknown): Promise<void> {
  for (const word of words) {
    try {
      say(process.stdout, `${String((await act(word)) ?? word)}\n`);
    } catch (error) {
      complain(error instanceof Error ? error.message : String(error));
      process.exitCode = failureCode(error);
    }
  }
}
