// The kernel tests as a plain user. The repository may lie where such a user cannot look, so it gets a copy.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { has } from '../machine.js';
import { Skip } from '../stage.js';
import { vitest } from '../vitest.js';

const NOBODY = 65534;
const copy = '/var/tmp/iso-test-plain-user';

export function plainUser() {
  if (process.getuid() !== 0) throw new Skip('this already is one');
  if (!has('setpriv')) throw new Skip('setpriv is missing');
  rmSync(copy, { recursive: true, force: true });
  mkdirSync(copy, { mode: 0o755 });
  try {
    const files = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], { encoding: 'utf8' }).split('\n');
    const list = files.filter((file) => file && existsSync(file)).join('\n');
    const archive = spawnSync('tar', ['cf', '-', '-T', '-'], { input: list, maxBuffer: 2 ** 30 }).stdout;
    execFileSync('tar', ['xf', '-'], { cwd: copy, input: archive });
    execFileSync('cp', ['-a', 'node_modules', copy]);
    execFileSync('chown', ['-R', `${NOBODY}:${NOBODY}`, copy]);
    const before = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', '--inh-caps=-all'];
    return vitest('plain user', { projects: ['kernel'] }, { before, cwd: copy, env: { HOME: copy } })();
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}
