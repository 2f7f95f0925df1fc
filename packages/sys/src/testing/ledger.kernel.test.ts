import { execFileSync } from 'node:child_process';
import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { fromSources } from '../../../../test/typescript.js';
import { cgroup2, root, userns } from '../launcher/fixture.js';
import { difference, ledger } from './index.js';

/** Leaves things behind in namespaces of another process's own, and tells what its ledger says of each. */
const script = `
  import { execFileSync, spawnSync } from 'node:child_process';
  import { mkdirSync, openSync, closeSync, readFileSync, writeFileSync, unlinkSync, rmdirSync } from 'node:fs';
  import { difference, ledger } from ${JSON.stringify(join(import.meta.dirname, 'index.ts'))};
  import { launch, LaunchProgram, reap, StringArray, syscall, attempt } from ${JSON.stringify(join(import.meta.dirname, '../index.ts'))};
  const run = (command, ...args) => execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  const start = (text) => {
    const program = new LaunchProgram();
    program.step('exec', 'execve', ['/bin/sh', new StringArray(['sh', '-c', text]), new StringArray(['PATH=/usr/bin:/bin'])]);
    return launch(program);
  };
  const kill = (pid) => { attempt('kill', pid, 9); reap(pid, { block: true }); };
  const until = async (ready) => { for (let i = 0; !ready() && i < 1000; i++) await new Promise((go) => setTimeout(go, 10)); };
  const state = (pid) => { try { return readFileSync('/proc/' + pid + '/stat', 'utf8').split(') ')[1][0]; } catch { return 'gone'; } };
  const children = (pid) => readFileSync('/proc/' + pid + '/task/' + pid + '/children', 'utf8').trim();
  for (const folder of ['/run', '/dev/shm']) run('mount', '-t', 'tmpfs', 'none', folder);
  const leaks = {
    descriptor: () => { const fd = openSync('/etc'); return () => closeSync(fd); },
    mount: () => { mkdirSync('/run/here'); run('mount', '-t', 'tmpfs', 'leak', '/run/here'); return () => { run('umount', '/run/here'); rmdirSync('/run/here'); }; },
    netns: () => { run('ip', 'netns', 'add', 'isoleak'); return () => { run('ip', 'netns', 'del', 'isoleak'); run('umount', '-l', '/run/netns'); }; },
    interface: () => { run('ip', 'link', 'add', 'isoleak', 'type', 'bridge'); return () => run('ip', 'link', 'del', 'isoleak'); },
    process: () => { const { pid, pidfd } = start('exec sleep 60'); pidfd.close(); return () => kill(pid); },
    zombie: async () => { const { pid, pidfd } = start('exit 0'); pidfd.close(); await until(() => state(pid) === 'Z'); return () => reap(pid, { block: true }); },
    grandchild: async () => {
      const { pid, pidfd } = start('sleep 60; exit 0');
      pidfd.close();
      await until(() => children(pid));
      const below = Number(children(pid));
      return async () => { kill(pid); attempt('kill', below, 9); await until(() => ['Z', 'gone'].includes(state(below))); };
    },
    orphan: async () => {
      attempt('prctl', 36, 1, 0, 0, 0);
      const { pid, pidfd } = start('sleep 60 & exit 0');
      pidfd.close();
      reap(pid, { block: true });
      const orphan = Number(children(process.pid).split(' ').at(-1));
      return () => { kill(orphan); attempt('prctl', 36, 0, 0, 0, 0); };
    },
    memory: () => { writeFileSync('/dev/shm/isoleak', 'x'); return () => unlinkSync('/dev/shm/isoleak'); },
    queue: () => { const id = /\\d+/.exec(run('ipcmk', '-Q'))[0]; return () => run('ipcrm', '-q', id); },
    dumpable: () => { attempt('prctl', 4, 0, 0, 0, 0); return () => attempt('prctl', 4, 1, 0, 0, 0); },
    directory: () => { const before = process.cwd(); process.chdir('/usr'); return () => process.chdir(before); },
    umask: () => { const before = process.umask(0o123); return () => process.umask(before); },
  };
  const { pid } = start('exit 0');
  reap(pid, { block: true });
  const told = {};
  for (const [name, leak] of Object.entries(leaks)) {
    const before = ledger();
    const clean = await leak();
    told[name] = difference(before, ledger());
    await clean();
    const left = difference(before, ledger());
    if (left.length) told[name + ' afterwards'] = left;
  }
  console.log(JSON.stringify(told));
  process.exit(0);`;

it.skipIf(!userns)(
  'names whatever is left behind, and nothing else [needs user namespaces]',
  { timeout: 60_000 },
  () => {
    const own = ['unshare', ...(root ? [] : ['-Ur']), '-m', '-n', '-i', '--propagation', 'private'];
    const node = [process.execPath, ...fromSources, '--input-type=module', '-e', script];
    const told = JSON.parse(execFileSync('env', [...own, ...node], { encoding: 'utf8' }));
    const line = (pattern: RegExp) => [expect.stringMatching(pattern)];
    expect(told).toEqual({
      descriptor: line(/^\+ fd \d+ \/etc$/),
      mount: line(/^\+ mount .* \/run\/here .* tmpfs leak /),
      netns: expect.arrayContaining([
        '+ network namespace isoleak',
        expect.stringMatching(/^\+ mount .* \/run\/netns\/isoleak .*nsfs/),
      ]),
      interface: ['+ interface isoleak'],
      process: line(/^\+ process \d+$/),
      zombie: line(/^\+ zombie \d+$/),
      grandchild: [expect.stringMatching(/^\+ process \d+$/), expect.stringMatching(/^\+ process \d+$/)],
      orphan: line(/^\+ process \d+$/),
      memory: ['+ file /dev/shm/isoleak'],
      queue: line(/^\+ System V msg \d+$/),
      dumpable: ['+ dumpable 0', '- dumpable 1'],
      directory: ['+ cwd /usr', expect.stringMatching(/^- cwd /)],
      umask: ['+ Umask:\t0123', expect.stringMatching(/^- Umask:/)],
    });
  },
);

it.skipIf(!cgroup2)('names cgroups, also those below others [needs root and cgroup v2]', () => {
  const path = join(cgroup2 as string, `iso-test-ledger-${process.pid}`);
  const before = ledger();
  mkdirSync(join(path, 'below'), { recursive: true });
  try {
    expect(difference(before, ledger())).toEqual([`+ cgroup ${path}`, `+ cgroup ${path}/below`]);
  } finally {
    rmdirSync(join(path, 'below'));
    rmdirSync(path);
  }
  expect(difference(before, ledger())).toEqual([]);
});
