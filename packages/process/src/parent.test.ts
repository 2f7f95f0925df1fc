import { readdirSync } from 'node:fs';
import { expect, it } from 'vitest';
import { explain } from './spawn.js';

it('asks for the signal before it looks whether there is a parent still, and keeps no descriptor', async () => {
  const before = readdirSync('/proc/self/fd').length;
  const lines = (await explain('/bin/true', [], { uid: 0, parentDeathSignal: 'SIGKILL' })).split('\n');
  const at = (text: RegExp) => lines.findIndex((line) => text.test(line));
  expect(at(/setresuid/)).toBeLessThan(at(/prctl\(1, 9,/));
  expect(at(/fcntl\(lifeline.*EAGAIN EACCES: to/)).toBe(at(/prctl\(1, 9,/) + 1);
  expect(at(/exit\(127\)/)).toBe(at(/fcntl\(lifeline/) + 1);
  expect(at(/close_range/)).toBeGreaterThan(at(/exit\(127\)/));
  expect(readdirSync('/proc/self/fd').length).toBe(before);
});
