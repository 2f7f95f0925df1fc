// Judges the built packages as a consumer would find them: publint and arethetypeswrong, both by their own command.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const { workspaces } = JSON.parse(readFileSync('package.json', 'utf8'));
let failed = 0;
for (const folder of workspaces.filter((name) => name.startsWith('packages/'))) {
  for (const [tool, ...args] of [
    ['publint', '--strict'],
    ['attw', '--pack', '.', '--profile', 'esm-only', '--quiet'],
  ]) {
    const { status, stdout, stderr } = spawnSync(`../../node_modules/.bin/${tool}`, args, {
      cwd: folder,
      encoding: 'utf8',
    });
    if (status === 0) continue;
    failed += 1;
    console.error(`${folder}: ${tool}\n${stdout}${stderr}`);
  }
}
console.log(failed ? `${failed} findings` : 'every package is well-formed');
process.exit(failed ? 1 : 0);
