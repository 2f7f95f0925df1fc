// Builds every package: JavaScript by tsup, declarations by tsc, in the order in which they depend on each other.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const { workspaces } = JSON.parse(readFileSync('package.json', 'utf8'));
for (const folder of workspaces) {
  execFileSync(process.execPath, ['../../node_modules/tsup/dist/cli-default.js'], { cwd: folder, stdio: 'inherit' });
  execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', '-p', folder], { stdio: 'inherit' });
}
