import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
// @ts-expect-error: plain JavaScript, which Node loads before anything is compiled.
import { compileSources } from './loader/compile.js';

/**
 * Commands of the tests keep their state away from the user's own; what tests start runs code that was compiled once; and what they
 * leave among temporary files goes when they have ended, those that were killed or skipped too.
 */
export default function setup(): () => void {
  const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
  // Some tests become another user.
  chmodSync(folder, 0o1777);
  const within = (name: string, mode: number) => {
    const path = join(folder, name);
    mkdirSync(path);
    chmodSync(path, mode);
    return path;
  };
  process.env.TMPDIR = folder;
  process.env.ISO_ROOT = within('state', 0o700);
  compileSources(within('code', 0o755));
  return () => rmSync(folder, { recursive: true, force: true });
}
