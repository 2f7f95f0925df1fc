import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { syscallNumber } from '@iso/sys';
import { describe, expect, it } from 'vitest';
import { tracers } from './index.js';

const missing = [
  ...(process.getuid?.() === 0 ? [] : ['root']),
  ...(spawnSync('/usr/bin/perl', ['-Mthreads', '-e', '1']).status === 0 ? [] : ['perl']),
  ...(spawnSync('setpriv', ['--version']).status === 0 ? [] : ['setpriv']),
];

describe.skipIf(missing.length)(`tracers${missing.length ? ` [needs ${missing.join(', ')}]` : ''}`, () => {
  const sleeping = ['sh', '-c', 'echo ready; exec sleep 60'];
  const without = (...names: string[]) => ['setpriv', `--bounding-set=${names.map((name) => `-${name}`).join(',')}`];
  // Its first thread ends, and with that what /proc says of its namespaces.
  const headless = `$| = 1; threads->create(sub { select(undef, undef, undef, 0.2); print "ready\\n"; sleep 60 }); syscall(${syscallNumber('exit')}, 0)`;

  it.each([
    ['may trace', [], [...without('sys_admin'), ...sleeping], true],
    ['may trace in a thread', [], [...without('sys_admin'), 'perl', '-Mthreads', '-e', headless], true],
    ['may do everything', [], sleeping, false],
    ['may not trace', [], [...without('sys_admin', 'sys_ptrace'), ...sleeping], false],
    ['may trace in a user namespace of its own', ['-Ur'], [...without('sys_admin'), ...sleeping], false],
  ])('a process that %s', async (_, options, words, is) => {
    const unshare = spawn('unshare', ['-pf', '--kill-child', ...options, ...words], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      await once(unshare.stdout, 'data');
      const first = Number(readFileSync(`/proc/${unshare.pid}/task/${unshare.pid}/children`, 'utf8'));
      expect(tracers({ path: `/proc/${unshare.pid}/ns/pid_for_children` })).toEqual(is ? [first] : []);
      expect(tracers({ pid: process.pid })).toEqual([]);
    } finally {
      const ended = once(unshare, 'close');
      unshare.kill('SIGKILL');
      await ended;
    }
  });
});
