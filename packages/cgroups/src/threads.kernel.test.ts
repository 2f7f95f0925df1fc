import { readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { Cgroup } from './index.js';
import { atOnce, file, has, layouts, testParent, unified } from './kit.js';

const parent = testParent('threads');

/** A worker that says its thread id, then works as hard as it may. */
async function busyWorker(): Promise<{ worker: Worker; tid: number }> {
  const worker = new Worker(
    `const { parentPort } = require('node:worker_threads');
     const { readlinkSync } = require('node:fs');
     parentPort.postMessage(Number(readlinkSync('/proc/thread-self').split('/').pop()));
     parentPort.once('message', () => { for (;;); });`,
    { eval: true },
  );
  const tid = await new Promise<number>((resolve) => worker.once('message', resolve));
  return { worker, tid };
}

/** Seconds of processor time that a thread of this process used, as /proc says. */
function used(tid: number): number {
  const stat = readFileSync(`/proc/self/task/${tid}/stat`, 'latin1');
  const [, , , , , , , , , , , utime, stime] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(utime) + Number(stime)) / 100;
}

async function shares(tids: readonly number[]): Promise<number[]> {
  const [before, start] = [tids.map(used), performance.now()];
  await new Promise((resolve) => setTimeout(resolve, 2000));
  const seconds = (performance.now() - start) / 1000;
  return tids.map((tid, i) => (used(tid) - (before[i] as number)) / seconds);
}

/** Shares of a processor that a worker in a group gets, and one that is in none. */
const workers = atOnce(async (layout) => {
  const [slow, free] = [await busyWorker(), await busyWorker()];
  // v2 takes threads below a group that their process is in: this one's own, wherever that is.
  const own = await Cgroup.of('self', { layout });
  const name = `slow-${layout.kind}`;
  const options = { limits: { cpu: { max: 0.1 } } };
  const group =
    layout.kind === 'unified'
      ? await own.create(`${parent}-${name}`, { threaded: true, ...options })
      : await Cgroup.create(name, { parent, layout, controllers: [], ...options });
  try {
    await group.moveThread(slow.tid);
    expect(group.tids('cpu')).toEqual([slow.tid]);
    expect(readFileSync(`/proc/self/task/${slow.tid}/cgroup`, 'utf8')).toContain(group.name);
    for (const { worker } of [slow, free]) worker.postMessage('go');
    return await shares([slow.tid, free.tid]);
  } finally {
    for (const { worker } of [slow, free]) await worker.terminate();
    await group.remove();
    own[Symbol.dispose]();
  }
});

for (const [kind, layout] of layouts) {
  describe.skipIf(!has(layout, 'cpu'))(`threads on ${kind} [needs root and the cpu controller]`, () => {
    it('one worker is held at 10 % of a processor while another runs free', async () => {
      const [share = 1, other] = await workers(layout);
      // How much the free one gets is the machine's load; the slow one gets no more than its share in any case.
      expect(share).toBeGreaterThan(0);
      expect(share).toBeLessThan(0.12);
      expect(other).toBeGreaterThan(2 * share);
    });
  });
}

describe.skipIf(!has(unified, 'cpu', 2))('threaded groups [needs root and the v2 cpu controller]', () => {
  it('take no controllers of whole processes, and no processes of elsewhere', async () => {
    const above = await Cgroup.create('above', { parent, controllers: [] });
    await expect(above.create('memory', { threaded: true, limits: { memory: { max: '1M' } } })).rejects.toMatchObject({
      code: 'EUNSUPPORTED',
    });
    const group = await above.create('threaded', { threaded: true, controllers: [] });
    expect(file(group, 'freezer', 'cgroup.type')).toBe('threaded');
    await expect(group.moveThread(process.pid)).rejects.toMatchObject({ reason: 'threaded' });
    await expect(group.kill()).rejects.toMatchObject({ reason: 'threaded' });
    await group.remove();
    await above.remove();
  });

  it('a group with processes refuses children with controllers: it says which, and what to do', async () => {
    const group = await Cgroup.create('busy', { parent });
    const { spawn } = await import('node:child_process');
    const child = spawn('sh', ['-c', 'echo 0 > "$0/cgroup.procs"; exec sleep 60', group.path() as string], {
      stdio: 'ignore',
    });
    const gone = new Promise((resolve) => child.once('exit', resolve));
    while (group.pids.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    await expect(group.create('child', { limits: { memory: { max: '8M' } } })).rejects.toMatchObject({
      reason: 'internalProcess',
      at: group.path(),
    });
    expect(file(group, 'freezer', 'cgroup.type')).toBe('domain');
    expect(group.children()).toEqual([]);
    await group.kill();
    await gone;
    await group.remove();
  });

  it('a controller that an ancestor does not pass on is named, with the ancestor', async () => {
    const above = await Cgroup.create('above', { parent, controllers: [] });
    const below = await above.create('below', { controllers: [] });
    await expect(below.set({ memory: { max: '8M' } })).rejects.toMatchObject({
      reason: 'controllerNotEnabled',
      at: above.path(),
      code: 'ENOENT',
    });
    expect(below.stats().absent.memory).toContain('subtree_control');
    await below.remove();
    await above.remove();
  });
});
