// `npm test`: every test in every place where it can run: unit tests, kernel tests as root, as a plain user, and in a
// virtual machine with cgroup v2; the README's examples; types, style and packages. Prints why what was not run was not.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';

const root = new URL('..', import.meta.url).pathname;
process.chdir(root);
const isRoot = process.getuid() === 0;
const results = [];

function stage(name, command, args, options = {}) {
  console.log(`\n== ${name}`);
  const start = Date.now();
  const { status } = spawnSync(command, args, { stdio: 'inherit', ...options });
  results.push({ name, ok: status === 0, seconds: (Date.now() - start) / 1000 });
}

function skip(name, why) {
  console.log(`\n== ${name}\nskipped: ${why}`);
  results.push({ name, skipped: why });
}

/** Debian packages that the tests' judges come from. */
const judges = {
  strace: 'strace',
  findmnt: 'util-linux',
  lsns: 'util-linux',
  setpriv: 'util-linux',
  ip: 'iproute2',
  gcc: 'gcc',
  'aarch64-linux-gnu-as': 'binutils-aarch64-linux-gnu',
};
const has = (tool) => spawnSync('sh', ['-c', `command -v ${tool}`], { stdio: 'ignore' }).status === 0;
const missing = [
  ...new Set(
    Object.entries(judges)
      .filter(([tool]) => !has(tool))
      .map(([, name]) => name),
  ),
];
if (missing.length) {
  if (isRoot && has('apt-get')) {
    console.log(`installing ${missing.join(' ')}`);
    spawnSync(
      'sh',
      ['-c', `apt-get update -qq && apt-get install -y -qq --no-install-recommends ${missing.join(' ')} >/dev/null`],
      { stdio: 'inherit' },
    );
  } else console.log(`not installed, their tests are skipped: ${missing.join(' ')}`);
}

execFileSync(process.execPath, ['test/prepare.js'], { stdio: 'inherit' });
const vitest = ['node_modules/vitest/vitest.mjs', 'run'];

stage('types and style', 'npm', ['run', '--silent', 'check']);
stage('unit tests', process.execPath, [...vitest, '--project', 'unit']);
stage('kernel tests on this machine', process.execPath, [...vitest, '--project', 'kernel']);
if (!isRoot) skip('kernel tests as a plain user', 'this already is one');
else if (!has('setpriv')) skip('kernel tests as a plain user', 'setpriv is missing');
else plainUser();
stage('examples of the documents', process.execPath, [...vitest, '--project', 'docs']);
stage('kernel tests in a virtual machine, cgroup v2', process.execPath, ['test/vm/run.js']);
stage('arm64 launcher, emulated', process.execPath, ['test/arm64.js']);
stage('package shape', process.execPath, ['test/lint-packages.js']);
stage('reference documents', process.execPath, ['node_modules/typedoc/bin/typedoc', '--logLevel', 'Warn']);

console.log('\n== summary');
for (const { name, ok, skipped, seconds } of results) {
  console.log(
    `${skipped ? `skipped (${skipped})` : ok ? 'passed' : 'FAILED'}  ${name}${seconds ? `  ${seconds.toFixed(0)} s` : ''}`,
  );
}
const failed = results.filter((result) => result.ok === false).length;
console.log(`${results.filter((result) => result.ok).length} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;

/** The repository may lie where a plain user cannot look, so the user gets a copy that it can read. */
function plainUser() {
  const copy = '/var/tmp/iso-test-plain-user';
  spawnSync('rm', ['-rf', copy]);
  mkdirSync(copy, { mode: 0o755 });
  try {
    const files = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], { encoding: 'utf8' }).split('\n');
    const list = files.filter((file) => file && existsSync(file)).join('\n');
    spawnSync('tar', ['cf', `${copy}/tree.tar`, '-T', '-'], { input: list, stdio: ['pipe', 'inherit', 'inherit'] });
    spawnSync('tar', ['xf', 'tree.tar'], { cwd: copy });
    spawnSync('cp', ['-a', 'node_modules', copy]);
    spawnSync('chown', ['-R', '65534:65534', copy]);
    stage(
      'kernel tests as a plain user',
      'setpriv',
      [
        '--reuid',
        '65534',
        '--regid',
        '65534',
        '--clear-groups',
        '--inh-caps=-all',
        process.execPath,
        ...vitest,
        '--project',
        'kernel',
      ],
      { cwd: copy, env: { ...process.env, HOME: copy } },
    );
  } finally {
    spawnSync('rm', ['-rf', copy]);
  }
}
