// Makes dist/cli.cjs.cache, which bin/iso-oci.js reads: V8's code for what the commands use, as the Node that builds has it.
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const file = fileURLToPath(new URL('../dist/cli.cjs', import.meta.url));
const built = readFileSync(file, 'latin1').replace(/^\/\/[0-9a-f]{64}\n/, '');
if (/[^\x00-\x7f]/.test(built)) throw new Error('the bundle is to be ASCII: it is read as that');
const hash = createHash('sha256').update(built).digest('hex');
writeFileSync(file, `//${hash}\n${built}`, 'latin1');
rmSync(`${file}.cache`, { force: true });

const folder = mkdtempSync(join(tmpdir(), 'iso-oci-cache-'));
const root = join(folder, 'rootfs');
for (const name of ['proc', 'dev', 'sys']) mkdirSync(join(root, name), { recursive: true });
const config = {
  ociVersion: '1.2.0',
  root: { path: root },
  hostname: 'none',
  // There is no such program, and so there will be no container: but all that makes one is compiled by then.
  process: { args: ['/nowhere'], cwd: '/', env: ['PATH=/'], noNewPrivileges: true, capabilities: {} },
  mounts: [
    { destination: '/proc', type: 'proc', source: 'proc' },
    { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755'] },
    { destination: '/dev/pts', type: 'devpts', source: 'devpts' },
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['ro'] },
  ],
  linux: {
    namespaces: ['pid', 'network', 'ipc', 'uts', 'mount'].map((type) => ({ type })),
    seccomp: { defaultAction: 'SCMP_ACT_ALLOW', syscalls: [{ names: ['mount'], action: 'SCMP_ACT_ERRNO' }] },
    maskedPaths: ['/proc/kcore'],
    readonlyPaths: ['/proc/sys'],
  },
};
writeFileSync(join(folder, 'config.json'), JSON.stringify(config));

// Of the command's own, nothing is to be read here but what it cannot do.
process.stderr.write = () => true;
process.argv.splice(
  2,
  Infinity,
  '--root',
  join(folder, 'store'),
  '--cgroup-manager',
  'disabled',
  'run',
  '-b',
  folder,
  'x',
);
const { script } = createRequire(import.meta.url)('../bin/iso-oci.js');
process.once('exit', () => {
  process.exitCode = 0;
  writeFileSync(`${file}.cache`, Buffer.concat([Buffer.from(hash, 'latin1'), script.createCachedData()]));
  rmSync(folder, { recursive: true, force: true });
});
