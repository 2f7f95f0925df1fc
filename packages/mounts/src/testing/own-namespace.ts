import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromSources } from '../../../../test/typescript.js';

const root = process.getuid?.() === 0;
let count = 0;

/**
 * Runs TypeScript in a mount namespace of its own; of a plain user in a user namespace too. The package is there as
 * `iso`, `@iso/sys` as `sys`, and `assert`, `fs` and `sh(script)`, which returns what a shell prints.
 *
 * @param folder - for the script
 * @param body - what runs
 * @param options - `user`: in a user namespace in any case; `shared`: the mounts are shared, as systemd makes them
 * @returns what it printed
 */
export function inOwnNamespace(
  folder: string,
  body: string,
  options: { user?: boolean; shared?: boolean } = {},
): string {
  const file = join(folder, `script-${count++}.mts`);
  writeFileSync(
    file,
    `import assert from 'node:assert/strict';
     import fs from 'node:fs';
     import { execFileSync } from 'node:child_process';
     import * as iso from ${JSON.stringify(join(import.meta.dirname, '../index.ts'))};
     import * as sys from ${JSON.stringify(join(import.meta.dirname, '../../../sys/src/index.ts'))};
     const sh = (script) => execFileSync('sh', ['-c', script], { encoding: 'utf8' });
     const folder = ${JSON.stringify(folder)};
     ${body}`,
  );
  const enter = options.shared ? 'mount --make-rshared / && exec "$0" "$@"' : 'exec "$0" "$@"';
  const flags = root && !options.user ? ['-m', '--propagation', 'private'] : ['-Urm', '--propagation', 'private'];
  const { status, stdout, stderr } = spawnSync(
    'unshare',
    [...flags, 'sh', '-c', enter, process.execPath, ...fromSources, file],
    { encoding: 'utf8', timeout: 110_000, killSignal: 'SIGKILL', cwd: join(import.meta.dirname, '../../../..') },
  );
  rmSync(file);
  if (status !== 0) throw new Error(`${stdout}${stderr}`);
  return stdout;
}
