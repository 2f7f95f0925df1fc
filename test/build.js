// Builds every package: JavaScript by tsup, declarations by tsc. What depends on others waits for them; the rest side by side.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';

const read = (folder) => JSON.parse(readFileSync(`${folder}/package.json`, 'utf8'));
const { workspaces } = read('.');
const packages = new Map(workspaces.map((folder) => [read(folder).name, folder]));
const built = new Map();
const waiting = [];
let running = 0;

for (const name of packages.keys()) build(name);
const failed = (await Promise.allSettled(built.values())).filter(({ reason }) => reason);
for (const { reason } of failed) console.error(reason.message);
process.exitCode = failed.length ? 1 : 0;

function build(name) {
  if (!built.has(name)) built.set(name, compile(packages.get(name)));
  return built.get(name);
}

async function compile(folder) {
  const { dependencies = {} } = read(folder);
  await Promise.all(
    Object.keys(dependencies)
      .filter((name) => packages.has(name))
      .map(build),
  );
  await Promise.all([
    node(folder, '../../node_modules/tsup/dist/cli-default.js'),
    node(folder, '../../node_modules/typescript/bin/tsc'),
  ]);
}

/** Runs a tool, as many at once as there are processors. */
async function node(cwd, tool) {
  if (running === availableParallelism()) await new Promise((resolve) => waiting.push(resolve));
  else running++;
  const child = spawn(process.execPath, [tool], { cwd, stdio: 'inherit' });
  const code = await new Promise((resolve, reject) => child.on('exit', resolve).on('error', reject));
  const next = waiting.shift();
  if (next) next();
  else running--;
  if (code !== 0) throw new Error(`${tool.split('/').at(-1)} of ${cwd} ended with ${code}`);
}
