import { createHash } from 'node:crypto';
import { invalid } from '@iso/sys';

/** Longest name of a file that a name becomes; longer ones become a hash. */
const LONGEST = 200;
const HASHED = '~';

/**
 * Refuses what is no name: any text is one but the empty one, and half of a surrogate pair, which has no bytes.
 *
 * @param name - of a snapshot, a lease or a lock
 * @returns it
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function checkName(name: string): string {
  if (typeof name !== 'string' || name === '' || !name.isWellFormed() || name.length > 4096) {
    throw invalid(`not a name of 1 to 4096 characters: ${JSON.stringify(name)}`);
  }
  return name;
}

/**
 * The file that a name has: one component of harmless characters, whatever the name holds, and another one for each name.
 *
 * @param name - any
 * @returns the file's name
 */
export function fileName(name: string): string {
  const escaped = [...Buffer.from(checkName(name))]
    .map((byte, at) => {
      const char = String.fromCharCode(byte);
      const plain = at === 0 ? /[A-Za-z0-9_]/ : /[A-Za-z0-9_.:@+-]/;
      return plain.test(char) ? char : `%${byte.toString(16).padStart(2, '0')}`;
    })
    .join('');
  if (escaped.length <= LONGEST) return escaped;
  return `${HASHED}${createHash('sha256').update(name).digest('hex')}`;
}
