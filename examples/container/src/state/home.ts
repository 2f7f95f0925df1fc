import { lstatSync, mkdirSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { UsageError } from '../options.js';

/**
 * Where state is kept: `$ISO_ROOT`, else /var/lib/iso for root and the user's data directory for others, who may have none that
 * can be written: then one of theirs in the directory for temporary files. It is made for its owner alone: who can write there
 * decides what the next command believes.
 *
 * @returns the directory
 * @throws {@link UsageError} where none can be made, or where it belongs to somebody else
 */
export function home(): string {
  const chosen = process.env.ISO_ROOT;
  if (chosen) return own(resolve(chosen));
  if (process.getuid?.() === 0) return own('/var/lib/iso');
  const data = process.env.XDG_DATA_HOME;
  try {
    // The specification has relative paths ignored.
    return own(join(data?.startsWith('/') ? data : join(homedir(), '.local/share'), 'iso'));
  } catch {
    return own(join(tmpdir(), `iso-${process.getuid?.()}`));
  }
}

function own(directory: string): string {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new UsageError(`state cannot be kept in ${directory} (${(error as Error).message}): set ISO_ROOT`);
  }
  const info = lstatSync(directory);
  if (!info.isDirectory() || info.uid !== process.getuid?.() || (info.mode & 0o022) !== 0)
    throw new UsageError(`${directory} is not this user's own directory, or others can write there: set ISO_ROOT`);
  return directory;
}
