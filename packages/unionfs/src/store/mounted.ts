import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/**
 * The mount tables of all processes that can be seen from here, one of each mount namespace. What a process that was killed had
 * attached is in one of them, when nobody holds the snapshot any more.
 *
 * @returns what they hold, as text
 */
export function mountTables(): string {
  const seen = new Set<string>();
  const tables: string[] = [];
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      const namespace = readlinkSync(`/proc/${pid}/ns/mnt`);
      if (seen.has(namespace)) continue;
      tables.push(readFileSync(`/proc/${pid}/mountinfo`, 'latin1'));
      seen.add(namespace);
    } catch {
      // It ended, or is another user's.
    }
  }
  return tables.join('');
}
