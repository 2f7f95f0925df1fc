import { rmdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Cgroup, type CgroupEvent, type EventOptions, type Layout } from '../index.js';
import { ended, eventually, file, has, layouts, run, testParent, unified } from '../kit.js';

const parent = testParent('events');

/** Collects events until it is told to stop. */
function collect(group: Cgroup, options: EventOptions = {}) {
  const seen: CgroupEvent[] = [];
  const iterator = group.events(options);
  const done = (async () => {
    for await (const event of iterator) seen.push(event);
  })();
  return { seen, done, stop: () => iterator.return?.().then(() => done) };
}

const bomb = 'x=0123456789abcdef; while :; do x=$x$x; done';

for (const [kind, layout] of layouts) {
  const removeEverywhere = (name: string) => {
    for (const { mount } of layout.hierarchies) {
      try {
        rmdirSync(`${mount}/${parent}/${name}`);
      } catch {
        // Not in this hierarchy.
      }
    }
  };
  const make = (name: string, options: Parameters<typeof Cgroup.create>[1] = {}) =>
    Cgroup.create(name, { parent, layout, ...options });

  describe.skipIf(!has(layout, 'memory') || !has(layout, 'pids'))(
    `events on ${kind} [needs root, memory, pids]`,
    () => {
      it('populated, then empty', async () => {
        const group = await make('populated');
        const { seen, stop } = collect(group, { types: ['populated'] });
        const { pidfd } = run(group, 'sleep 60');
        await eventually(() => seen.length === 1);
        await group.kill();
        await eventually(() => seen.length === 2);
        expect(seen).toEqual([
          { type: 'populated', populated: true },
          { type: 'populated', populated: false },
        ]);
        await stop();
        await ended(pidfd);
        await group.remove();
      });

      it('a refused fork', async () => {
        const group = await make('fork', { limits: { pids: { max: 1 } } });
        const { seen, stop } = collect(group, { types: ['pids'] });
        const { pidfd } = run(group, 'true & true');
        await ended(pidfd);
        await eventually(() => seen.length > 0);
        expect(seen[0]).toMatchObject({ type: 'pids', event: 'max' });
        expect(file(group, 'pids', 'pids.events')).toMatch(/max [1-9]/);
        await stop();
        await group.remove();
      });

      it('a kill by the OOM killer', async () => {
        const group = await make('oom', { limits: { memory: { max: '16M', swap: { max: 0 } } } });
        const { seen, stop } = collect(group, { types: ['memory'] });
        const { pidfd } = run(group, bomb);
        expect((await ended(pidfd))?.signal).toBe(9);
        const kill = () => seen.find((event) => event.type === 'memory' && event.event === 'oomKill');
        await eventually(() => kill() !== undefined);
        expect(kill()).toMatchObject({ delta: 1, total: 1 });
        expect(seen.some((event) => event.type === 'memory' && event.event === 'oom')).toBe(true);
        await stop();
        await group.remove();
      });

      it.skipIf(!has(layout, 'hugetlb', 2))('a refused huge page [needs the v2 hugetlb controller]', async () => {
        const group = await make('huge', { limits: { hugetlb: { '2MB': { rsvdMax: 0 } } } });
        const { seen, stop } = collect(group, { types: ['hugetlb'] });
        const mmap = process.arch === 'x64' ? 9 : 222;
        const [writable, hugeAndAnonymous] = [3, 0x40022];
        const map = `exit(syscall(${mmap}, 0, 2 << 20, ${writable}, ${hugeAndAnonymous}, -1, 0) == -1 ? 5 : 0)`;
        expect((await ended(run(group, `exec perl -e '${map}'`).pidfd))?.code).toBe(5);
        await eventually(() => seen.length > 0);
        expect(seen).toEqual([{ type: 'hugetlb', event: 'max', delta: 1, total: 1 }]);
        expect(file(group, 'hugetlb', 'hugetlb.2MB.events')).toBe('max 1');
        await stop();
        await group.remove();
      });

      it('removal is the last one, and ends the loop', async () => {
        const group = await make('removed');
        const { seen, done } = collect(group);
        await sleep(50);
        removeEverywhere(group.name);
        await done;
        expect(seen.at(-1)).toEqual({ type: 'removed' });
        await group[Symbol.asyncDispose]();
      });

      it.each(['remove', 'dispose'] as const)('removal by its own handle, too (%s)', async (how) => {
        for (const types of [undefined, ['removed'], ['memory', 'removed'], ['populated', 'removed']] as const) {
          const group = await make(`own-${how}`);
          const { seen, done } = collect(group, types ? { types } : {});
          await (how === 'remove' ? group.remove() : group[Symbol.asyncDispose]());
          await done;
          expect(seen).toEqual([{ type: 'removed' }]);
        }
      });

      it('a handle that was closed crashes nobody: it ends, where something must be asked by it with an error', async () => {
        const group = await make('closed');
        const ended = collect(group).done.catch((error) => error);
        group[Symbol.dispose]();
        removeEverywhere(group.name);
        expect([undefined, 'ERR_INVALID_STATE']).toContain((await ended)?.code);
      });

      it('a signal ends it with its reason; nothing is left open', async () => {
        const group = await make('signal');
        const controller = new AbortController();
        const iterator = group.events({ signal: controller.signal });
        const next = iterator.next();
        controller.abort(new Error('enough'));
        await expect(next).rejects.toThrow('enough');
        await group.remove();
      });
    },
  );

  describe.skipIf(!has(layout, 'memory', 1))(
    `v1 memory events on ${kind} [needs root and the v1 memory controller]`,
    () => {
      it('a threshold that is crossed', async () => {
        const group = await make('threshold', { limits: { memory: { max: '64M', swap: { max: 0 } } } });
        const { seen, stop } = collect(group, { types: ['threshold'], thresholds: [8 * 2 ** 20] });
        const { pidfd } = run(group, 'x=0123456789abcdef; while [ ${#x} -lt 16000000 ]; do x=$x$x; done; sleep 60');
        await eventually(() => seen.length > 0);
        expect(seen[0]).toMatchObject({ type: 'threshold', bytes: 8 * 2 ** 20 });
        await group.kill();
        await ended(pidfd);
        await stop();
        await group.remove();
      });

      it('memory pressure', async () => {
        const group = await make('level', { limits: { memory: { max: '16M', swap: { max: 0 } } } });
        const { seen, stop } = collect(group, { types: ['pressureLevel'], pressureLevel: 'low' });
        const { pidfd } = run(group, bomb);
        await ended(pidfd);
        await eventually(() => seen.length > 0);
        expect(seen[0]).toMatchObject({ type: 'pressureLevel', level: 'low' });
        await stop();
        await group.remove();
      });
    },
  );
}

describe.skipIf(!has(unified, 'memory', 2))('v2 memory events [needs root and the v2 memory controller]', () => {
  it('says whose limit it was: an ancestor’s', async () => {
    const above = await Cgroup.create('above', {
      parent,
      limits: { memory: { max: '16M', swap: { max: 0 } } },
    });
    const below = await above.create('below', { controllers: ['memory'] });
    const { seen, stop } = collect(below, { types: ['memory'] });
    const { pidfd } = run(below, bomb);
    expect((await ended(pidfd))?.signal).toBe(9);
    const kill = () => seen.find((event) => event.type === 'memory' && event.event === 'oomKill');
    await eventually(() => kill() !== undefined);
    expect(kill()).toMatchObject({ limitOf: above.path('memory') });
    expect(file(above, 'memory', 'memory.events.local')).toMatch(/oom [1-9]/);
    await stop();
    await above[Symbol.asyncDispose]();
    below[Symbol.dispose]();
  });

  it('says whose limit it was: its own', async () => {
    const group = await Cgroup.create('own', {
      parent,
      limits: { memory: { max: '16M', swap: { max: 0 }, oomGroup: true } },
    });
    const { seen, stop } = collect(group, { types: ['memory'] });
    const { pidfd } = run(group, bomb);
    expect((await ended(pidfd))?.signal).toBe(9);
    const kill = (event: CgroupEvent) => event.type === 'memory' && event.event === 'oomKill';
    await eventually(() => seen.some(kill));
    expect(seen.find(kill)).toMatchObject({ limitOf: group.path('memory') });
    await stop();
    await group.remove();
  });
});

describe.skipIf(!has(unified, 'freezer', 2))('v2 state events [needs root and a v2 tree]', () => {
  it('frozen and thawed', async () => {
    const group = await Cgroup.create('frozen', { parent, layout: unified as Layout, controllers: [] });
    const { seen, stop } = collect(group, { types: ['frozen'] });
    const { pidfd } = run(group, 'sleep 60');
    await group.freeze();
    await eventually(() => seen.length === 1);
    await group.thaw();
    await eventually(() => seen.length === 2);
    expect(seen).toEqual([
      { type: 'frozen', frozen: true },
      { type: 'frozen', frozen: false },
    ]);
    await stop();
    await group.kill();
    await ended(pidfd);
    await group.remove();
  });

  it('a trigger fires under pressure, once a window, and not before', async () => {
    const group = await Cgroup.create('pressure', { parent, layout: unified as Layout, controllers: [] });
    const trigger = group.pressure('cpu', { stallUs: 200_000, windowUs: 2_000_000 });
    let fired = 0;
    const loop = (async () => {
      for await (const event of trigger) {
        expect(event.stalledUs).toBeGreaterThanOrEqual(200_000);
        fired++;
      }
    })();
    await sleep(300);
    expect(fired).toBe(0);
    // More runners than processors.
    const { pidfd } = run(group, 'for i in 1 2 3 4 5 6 7 8 9; do while :; do :; done & done; while :; do :; done');
    await eventually(() => fired > 0, 60_000);
    expect(file(group, undefined, 'cpu.pressure')).toMatch(/some .*total=[1-9]/);
    trigger[Symbol.dispose]();
    await loop;
    await group.kill();
    await ended(pidfd);
    await group.remove();
  });

  it('a trigger ends with its group, whoever removes that', async () => {
    for (const own of [true, false]) {
      const group = await Cgroup.create('pressure', { parent, layout: unified as Layout, controllers: [] });
      const other = await Cgroup.open(group.path() as string, { layout: unified as Layout });
      using trigger = group.pressure('cpu', { stallUs: 200_000, windowUs: 2_000_000 });
      const next = trigger.next();
      await (own ? group : other).remove();
      expect(await next).toEqual({ value: undefined, done: true });
      await Promise.all([group.remove(), other.remove()]);
    }
  });

  it('refuses triggers that are none', async () => {
    const group = await Cgroup.create('bad-trigger', { parent, layout: unified as Layout, controllers: [] });
    expect(() => group.pressure('cpu', { stallUs: 3, windowUs: 2 })).toThrow(TypeError);
    expect(() => group.pressure('cpu', { stallUs: 1000, windowUs: 11_000_000 })).toThrow(
      expect.objectContaining({ reason: 'invalidValue' }),
    );
    expect(() => group.pressure('disk' as 'io', { stallUs: 1000, windowUs: 2_000_000 })).toThrow(TypeError);
    await group.remove();
  });
});
