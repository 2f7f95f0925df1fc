// Packages of the npm registry that are not ours to depend on: other builds of Node. Fetched once, kept in a cache.
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Skip } from './stage.js';

const cache = new URL('../node_modules/.cache/iso', import.meta.url).pathname;

/**
 * The folder in the cache that holds something; made where it is missing.
 *
 * @param {string} name of it
 * @param {(scratch: string) => string} fetch gets an empty folder, returns the one that holds it
 */
export function cached(name, fetch) {
  const folder = join(cache, name.replaceAll('/', '+'));
  if (existsSync(folder)) return folder;
  const scratch = mkdtempSync(join(tmpdir(), 'iso-download-'));
  try {
    const fetched = fetch(scratch);
    mkdirSync(dirname(folder), { recursive: true });
    // Renamed once complete, so that an interrupted copy is never taken for the whole.
    const partial = `${folder}.${process.pid}`;
    cpSync(fetched, partial, { recursive: true, verbatimSymlinks: true });
    renameSync(partial, folder);
  } finally {
    rmSync(scratch, { recursive: true });
  }
  return folder;
}

/** The folder with the files of an npm package, `name@version`. */
export function npmPackage(name) {
  return cached(name, (scratch) => {
    const args = ['pack', name, '--silent', '--pack-destination', scratch];
    const { status, stderr } = spawnSync('npm', args, { encoding: 'utf8', cwd: scratch });
    if (status !== 0) throw new Skip(`npm pack ${name} failed: ${stderr.trim()}`);
    execFileSync('tar', ['xzf', join(scratch, readdirSync(scratch)[0]), '-C', scratch]);
    return join(scratch, 'package');
  });
}
