// Makes a fresh clone ready: installs what the lock file says and builds what is missing or older than its source.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

const root = new URL('..', import.meta.url).pathname;
const quiet = process.argv.includes('--quiet');
const run = (command, args) =>
  execFileSync(command, args, { cwd: root, stdio: ['ignore', quiet ? 'ignore' : 'inherit', 'inherit'] });
const time = (path) => (existsSync(path) ? statSync(path).mtimeMs : 0);

function newest(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((latest, entry) => Math.max(latest, time(join(entry.parentPath ?? entry.path, entry.name))), 0);
}

if (time(join(root, 'node_modules/.package-lock.json')) < time(join(root, 'package-lock.json'))) {
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error']);
}
const { workspaces } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const stale = workspaces.some((folder) => {
  const built = Math.min(...['index.js', 'index.d.ts'].map((name) => time(join(root, folder, 'dist', name))));
  return built < newest(join(root, folder, 'src'));
});
if (stale) run(process.execPath, ['test/build.js']);
