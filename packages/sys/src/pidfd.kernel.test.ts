import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { openPidfd } from './pidfd.js';
import { startTime } from './start-time.js';
import { syscall } from './syscall.js';

it('holds the process of that number and beginning, and no other', () => {
  using self = openPidfd(process.pid, startTime(process.pid));
  expect(self && syscall('pidfd_send_signal', self, 0, null, 0)).toBe(0);
  expect(openPidfd(process.pid, '1')).toBeUndefined();
  expect(openPidfd(2 ** 22 - 1)).toBeUndefined();
  for (const none of [0, -1, 1.5, Number.NaN]) expect(() => openPidfd(none)).toThrow(TypeError);
});

it('takes the number of a session whose first process is gone for nobody', async () => {
  const leader = spawn('setsid', ['sh', '-c', 'sleep 60 & echo $$ $!'], { stdio: ['ignore', 'pipe', 'ignore'] });
  const [text] = await once(leader.stdout, 'data');
  const [session, member] = String(text).trim().split(' ').map(Number) as [number, number];
  while (existsSync(`/proc/${session}`)) await sleep(5);
  expect(openPidfd(session)).toBeUndefined();
  using held = openPidfd(member);
  expect(held && syscall('pidfd_send_signal', held, 9, null, 0)).toBe(0);
  while (existsSync(`/proc/${member}`)) await sleep(5);
});
