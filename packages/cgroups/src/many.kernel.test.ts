import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Cgroup, sample } from './index.js';
import { ended, eventually, file, has, layouts, run, testParent } from './kit.js';

const parent = testParent('many');

/** So many take minutes. */
const count = process.env.ISO_LONG ? 1000 : 50;

for (const [kind, layout] of layouts) {
  const limited = (['memory', 'pids', 'cpu'] as const).every((controller) => has(layout, controller));
  const make = (name: string, options: Parameters<typeof Cgroup.create>[1] = {}) =>
    Cgroup.create(name, { parent, layout, ...options });
  const places = layout.hierarchies.map(({ mount }) => `${mount}/${parent}`);
  /** Groups that the kernel has. */
  const there = () =>
    places.filter((path) => existsSync(path)).map((path) => readdirSync(path).filter((name) => name.includes('@')));

  describe.skipIf(!limited)(`many on ${kind} [needs root, and the memory, pids and cpu controllers]`, () => {
    it('groups at once: limited, sampled, killed, removed', async () => {
      const start = async (i: number) => {
        const group = await make(`many-${i}`, { limits: { pids: { max: 20 + i }, memory: { max: '16M' } } });
        const { pid, pidfd } = run(group, 'sleep 600 & exec sleep 600');
        expect(file(group, 'pids', 'pids.max')).toBe(String(20 + i));
        expect(readFileSync(`/proc/${pid}/cgroup`, 'utf8')).toContain(`/${parent}/${group.name}\n`);
        return { group, pidfd };
      };
      const end = async ({ group, pidfd }: Awaited<ReturnType<typeof start>>) => {
        for await (const { cpu } of sample(group, { intervalMs: 10, only: ['cpu', 'pids'] })) {
          expect(cpu?.cores).toBeGreaterThanOrEqual(0);
          break;
        }
        await group[Symbol.asyncDispose]();
        expect((await ended(pidfd))?.signal).toBe(9);
      };
      const all = await Promise.all(Array.from({ length: count }, (_, i) => start(i)));
      expect(Math.max(...there().map((names) => names.length))).toBe(count);
      await Promise.all(all.map(end));
      expect(there().flat()).toEqual([]);
    }, 600_000);

    it('processes that end while they are moved, looked at, and while their group goes', async () => {
      const seen = { moved: 0, ended: 0 };
      for (let i = 0; i < 30; i++) {
        const [from, to] = [await make('from'), await make('to')];
        // From one that has ended before it is moved to one that is moved long before.
        const { pid, pidfd } = run(
          from,
          i % 3 === 0 ? 'exit 3' : 'n=0; while [ $n -lt 2000 ]; do n=$((n+1)); done; exit 3',
        );
        if (i % 3 === 0) await eventually(() => /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')));
        const refusal = await to.move(pid).catch((error: unknown) => error);
        if (refusal) expect(refusal).toMatchObject({ reason: 'noSuchProcess' });
        seen[refusal ? 'ended' : 'moved']++;
        // The kernel passes over one that is just ending.
        await eventually(() => from.pids.length === 0);
        expect(to.stats({ only: ['pids'] }).pids?.current).toBeLessThanOrEqual(1);
        const removed = from.remove();
        expect((await ended(pidfd))?.code).toBe(3);
        // What has ended a moment ago does not keep them.
        await Promise.all([removed, to.remove()]);
      }
      expect(seen.moved).toBeGreaterThan(0);
      expect(there().flat()).toEqual([]);
    }, 60_000);

    it('a loop of forks that is moved to and fro, and killed on its way', async () => {
      const limits = { pids: { max: 32 } };
      const [a, b] = [await make('a', { limits }), await make('b', { limits })];
      const { pidfd } = run(a, 'while :; do (:); done');
      await eventually(() => a.pids.length > 0);
      for (let i = 0; i < 5; i++) {
        await b.moveAll(a);
        expect(file(a, 'pids', 'cgroup.procs')).toBe('');
        expect(b.pids.length).toBeGreaterThan(0);
        await a.moveAll(b);
        expect(file(b, 'pids', 'cgroup.procs')).toBe('');
      }
      await Promise.allSettled([b.moveAll(a), a.kill(), b.kill()]);
      // Whichever came first, both are empty after this.
      await Promise.all([a.kill(), b.kill()]);
      expect((await ended(pidfd))?.signal).toBe(9);
      for (const group of [a, b]) {
        expect(file(group, 'pids', 'cgroup.procs')).toBe('');
        await group.remove();
      }
    }, 60_000);
  });
}
