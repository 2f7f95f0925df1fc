// `npm test`: every test in every place where it can run. What was not run is listed with its reason, and in CI the
// list of skips must be the committed one.
import { execFileSync } from 'node:child_process';
import { prepareMachine } from './machine.js';
import { nodeLines } from './places/node-lines.js';
import { plainUser } from './places/plain-user.js';
import { thisMachine } from './places/this-machine.js';
import { background, stage, summary } from './stage.js';
import { vitest } from './vitest.js';

const flags = process.argv.slice(2);
process.chdir(new URL('..', import.meta.url).pathname);
prepareMachine();
execFileSync(process.execPath, ['test/prepare.js'], { stdio: 'inherit' });

const types = background(['npm', 'run', '--silent', 'check']);
await stage('unit tests', vitest('unit tests', { projects: ['unit'] }));
await stage('types and style', types);
const apart = background([process.execPath, 'test/places/this-machine.js', ...flags]);
await stage('kernel tests on this machine', thisMachine);
await stage('kernel tests on this machine, apart', apart);
// An emulated machine takes its time; nothing that runs here meanwhile is about speed.
const virtualMachine = background([process.execPath, 'test/places/virtual-machine.js', 'bookworm', ...flags]);
await stage('kernel tests as a plain user', plainUser);
await stage('examples of the documents', vitest('documents', { projects: ['docs'] }, { env: { ISO_LEDGER: 'own' } }));
await stage('other lines of Node', nodeLines);
await stage('arm64 launcher, emulated', [process.execPath, 'test/arm64.js']);
await stage('package shape', [process.execPath, 'test/lint-packages.js']);
await stage('reference documents', [process.execPath, 'node_modules/typedoc/bin/typedoc', '--logLevel', 'Warn']);
await stage('kernel tests in a virtual machine, cgroup v2', virtualMachine);

process.exitCode = summary() ? 0 : 1;
