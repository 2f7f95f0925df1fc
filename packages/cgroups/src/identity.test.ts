import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { ownerIsDead, ownIdentity } from './identity.js';

const field = (pid: string, at: number) => readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ')[at];

it('tells the dead from the living, zombies among the dead', async () => {
  const namespace = ownIdentity().split('-')[2];
  const of = (pid: string) => `name@${pid}-${field(pid, 19)}-${namespace}`;
  // What it becomes reaps nobody.
  const parent = spawn('sh', ['-c', 'sleep 0.05 & echo $!; exec sleep 60'], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const [chunk] = (await once(parent.stdout, 'data')) as [Buffer];
    const pid = String(chunk).trim();
    expect(ownerIsDead(of(String(process.pid)))).toBe(false);
    await expect.poll(() => field(pid, 0), { timeout: 10_000 }).toBe('Z');
    expect(ownerIsDead(of(pid))).toBe(true);
    expect(ownerIsDead(`name@${process.pid}-1-${namespace}`)).toBe(true);
    // Of another pid namespace nobody here can tell; other names are nobody's.
    expect(ownerIsDead(`name@${pid}-1-1`)).toBe(false);
    expect(ownerIsDead('name')).toBe(false);
  } finally {
    parent.kill('SIGKILL');
  }
});
