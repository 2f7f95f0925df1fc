import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { launchAsync } from '@iso/sys';
import { describe, expect, it } from 'vitest';
import { fromSources } from '../../../test/typescript.js';
import { Cgroup, CgroupError, detect, hierarchyOf } from './index.js';
import { atOnce, disk, ended, eventually, file, has, layouts, root, run, shell, testParent } from './kit.js';

const parent = testParent('cgroup');
const python = spawnSync('python3', ['-c', '']).status === 0;

/** The group of a process in each hierarchy, as the kernel says. */
const groupsOf = (pid: number | 'self') => readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().split('\n');

/** Shares of a processor that a busy loop gets in windows of two seconds, the last one of them enough where the machine has so much. */
const tenPercent = atOnce(async (layout) => {
  const group = await Cgroup.create(`cpu-${layout.kind}`, { parent, layout, limits: { cpu: { max: 0.1 } } });
  const { pidfd } = run(group, 'while :; do :; done');
  await eventually(() => (group.stats().cpu?.nrThrottled ?? 0) > 2);
  const windows: number[] = [];
  while (windows.length < 5 && !((windows.at(-1) ?? 0) > 0.09)) {
    const before = group.stats({ only: ['cpu'] });
    await new Promise((resolve) => setTimeout(resolve, 2000));
    const after = group.stats({ only: ['cpu'] });
    windows.push(((after.cpu?.usageUsec ?? 0) - (before.cpu?.usageUsec ?? 0)) / 1000 / (after.atMs - before.atMs));
  }
  await group.kill();
  await ended(pidfd);
  await group.remove();
  return windows;
});

for (const [kind, layout] of layouts) {
  const limited = (['memory', 'pids', 'cpu'] as const).every((controller) => has(layout, controller));
  const make = (name: string, options: Parameters<typeof Cgroup.create>[1] = {}) =>
    Cgroup.create(name, { parent, layout, ...options });

  describe.skipIf(!limited)(`Cgroup on ${kind} [needs root, and the memory, pids and cpu controllers]`, () => {
    it('sets limits that the kernel shows, and is gone afterwards', async () => {
      const group = await make('limits', {
        limits: { memory: { max: '32M', swap: { max: 0 } }, pids: { max: 7 }, cpu: { max: 0.25 } },
      });
      expect(file(group, 'pids', 'pids.max')).toBe('7');
      const paths = [group.path('memory'), group.path('pids'), group.path('cpu')] as string[];
      const memory = ['memory.max', 'memory.limit_in_bytes'].find((name) =>
        existsSync(`${paths[0]}/${name}`),
      ) as string;
      expect(file(group, 'memory', memory)).toBe(String(32 * 2 ** 20));
      const quota = ['cpu.max', 'cpu.cfs_quota_us'].find((name) => existsSync(`${paths[2]}/${name}`)) as string;
      expect(file(group, 'cpu', quota)).toMatch(/^25000( 100000)?$/);
      await group.remove();
      for (const path of paths) expect(existsSync(path)).toBe(false);
      await group[Symbol.asyncDispose]();
    });

    it('is where the process is born', async () => {
      const group = await make('born', { limits: { pids: { max: 10 } } });
      const { pid, pidfd } = run(group, 'sleep 60; true');
      const lines = groupsOf(pid);
      for (const { mount } of layout.hierarchies) {
        if (!existsSync(`${mount}/${parent}/${group.name}`)) continue;
        expect(readFileSync(`${mount}/${parent}/${group.name}/cgroup.procs`, 'utf8').split('\n')).toContain(
          String(pid),
        );
      }
      expect(lines.join('\n')).toContain(`/${parent}/${group.name}`);
      expect(group.pids).toContain(pid);
      await group.kill();
      expect((await ended(pidfd))?.signal).toBe(9);
      await group.remove();
    });

    it('memory bites: the kernel kills and counts', async () => {
      const group = await make('memory', { limits: { memory: { max: '16M', swap: { max: 0 } } } });
      const { pidfd } = run(group, 'x=0123456789abcdef; while :; do x=$x$x; done');
      expect((await ended(pidfd))?.signal).toBe(9);
      expect(group.stats().memory?.events?.oomKill).toBeGreaterThan(0);
      await group.remove();
    });

    it('pids bites: a fork fails', async () => {
      const group = await make('pids', { limits: { pids: { max: 1 } } });
      const { pidfd } = run(group, '/bin/true 2>&-; exit 0');
      expect((await ended(pidfd))?.code).not.toBe(0);
      await group[Symbol.asyncDispose]();
    });

    it('10 % of a processor is 10 % within 1 point', async () => {
      const windows = await tenPercent(layout);
      // Never more; and as much, as soon as others leave it so much.
      expect(Math.max(...windows)).toBeLessThan(0.11);
      expect(Math.max(...windows)).toBeGreaterThan(0.09);
    });

    it('kills a fork bomb by one kill', async () => {
      const group = await make('forks', { limits: { pids: { max: 64 } } });
      const { pidfd } = run(group, 'exec perl -e "fork while 1"');
      await eventually(() => (group.stats().pids?.events?.max ?? 0) > 100);
      await group.kill({ timeoutMs: 60_000 });
      expect(file(group, 'pids', 'cgroup.procs')).toBe('');
      await ended(pidfd);
      await group.remove();
    });

    it('is a group as before after a kill: others are born in it', async () => {
      const group = await make('again');
      for (let round = 0; round < 3; round++) {
        const { pidfd } = run(group, 'sleep 60; true');
        expect(group.pids.length).toBeGreaterThan(0);
        await group.kill();
        expect((await ended(pidfd))?.signal).toBe(9);
      }
      expect((await ended(run(group, 'exit 3').pidfd))?.code).toBe(3);
      await group.remove();
    });

    it.skipIf(!layout.unified)(
      'a kill ends where somebody else removes the group once it is empty [needs v2]',
      async () => {
        const group = await make('swept', { controllers: [] });
        const { pidfd } = run(group, 'sleep 60; true');
        const path = group.path() as string;
        const killed = group.kill();
        // Before this thread hears that it is empty, it is gone.
        for (const end = Date.now() + 10_000; existsSync(path) && Date.now() < end; ) {
          try {
            rmdirSync(path);
          } catch {
            // Not yet empty.
          }
        }
        expect(existsSync(path)).toBe(false);
        await killed;
        expect((await ended(pidfd))?.signal).toBe(9);
        await group[Symbol.asyncDispose]();
      },
    );

    it.skipIf(!python)('kills a process whose first thread has ended [needs python3]', async () => {
      const group = await make('headless');
      const exit = process.arch === 'x64' ? 60 : 93;
      const threads = 'import ctypes, threading, time; threading.Thread(target=time.sleep, args=(600,)).start()';
      const { pid, pidfd } = run(group, `exec python3 -c '${threads}; ctypes.CDLL(None).syscall(${exit}, 0)'`);
      await eventually(() => /^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')));
      const start = performance.now();
      await group.kill();
      expect(performance.now() - start).toBeLessThan(8_000);
      await ended(pidfd);
      await group.remove();
    });

    it('freezes a loop of forks, kills it frozen', async () => {
      const group = await make('frozen-forks', { limits: { pids: { max: 64 } } });
      const { pidfd } = run(group, 'while :; do (:); done');
      await eventually(() => group.pids.length > 0);
      await group.freeze({ timeoutMs: 60_000 });
      expect(group.stats({ only: ['cgroup'] }).cgroup).toMatchObject({ frozen: true, frozenBy: 'self' });
      const used = group.stats().cpu?.usageUsec;
      await new Promise((resolve) => setTimeout(resolve, 200));
      expect(group.stats().cpu?.usageUsec).toBe(used);
      await group.kill({ timeoutMs: 60_000 });
      expect((await ended(pidfd))?.signal).toBe(9);
      await group.remove();
    });

    it('a launch into a frozen one waits without blocking this thread', async () => {
      const group = await make('frozen');
      await group.freeze();
      expect(group.frozen).toBe(true);
      let ticks = 0;
      // Were this thread blocked, nobody would thaw it.
      const timer = setInterval(() => {
        if (++ticks === 6) void group.thaw();
      }, 5);
      const program = shell(group, 'exit 3');
      expect(program.blocking).toBe(true);
      const launched = await launchAsync(program);
      clearInterval(timer);
      expect(ticks).toBeGreaterThanOrEqual(6);
      expect((await ended(launched.pidfd))?.code).toBe(3);
      expect(group.frozen).toBe(false);
      await group.remove();
    });

    it('moves a process, a whole group, and back where one hierarchy refuses', async () => {
      const [from, to] = [await make('from'), await make('to')];
      const { pid, pidfd } = run(from, 'sleep 60 & sleep 60; true');
      await eventually(() => from.pids.length === 3);
      await to.move(pid);
      expect(to.pids).toEqual([pid]);
      await to.moveAll(from);
      expect(file(from, 'pids', 'cgroup.procs')).toBe('');
      expect(to.pids).toHaveLength(3);
      await expect(to.move(0x3fffff)).rejects.toMatchObject({ reason: 'noSuchProcess' });
      await expect(to.move(0)).rejects.toThrow(TypeError);
      await to.kill();
      await ended(pidfd);
      await from.remove();
      await to.remove();
    });

    it('nests: children by name, limits of their own, removed from the deepest', async () => {
      const group = await make('nest', { controllers: ['pids'] });
      const child = await group.create('child', { limits: { pids: { max: 3 } } });
      const grandchild = await child.create('grandchild', { controllers: [] });
      expect(group.children()).toEqual(['child']);
      expect(file(child, 'pids', 'pids.max')).toBe('3');
      await expect(group.create('child')).rejects.toMatchObject({ reason: 'exists' });
      const again = await group.open('child');
      expect(again.path()).toBe(child.path());
      await expect(group.open('other')).rejects.toMatchObject({ reason: 'removed' });
      const { pidfd } = run(grandchild, 'sleep 60; true');
      await eventually(() => group.allPids.length === 2);
      expect(group.pids).toEqual([]);
      await expect(group.remove()).rejects.toMatchObject({ reason: 'busy', code: 'EBUSY' });
      for (const one of [again, child, grandchild]) one[Symbol.dispose]();
      const reopened = await Cgroup.open(`${parent}/${group.name}`, { layout });
      group[Symbol.dispose]();
      await reopened[Symbol.asyncDispose]();
      expect((await ended(pidfd))?.signal).toBe(9);
    });

    it('opens the group of a process', async () => {
      const group = await make('of');
      const { pid, pidfd } = run(group, 'sleep 60; true');
      const found = await Cgroup.of(pid, { layout });
      expect(found.path('pids')).toBe(group.path('pids'));
      found[Symbol.dispose]();
      await group.kill();
      await ended(pidfd);
      await expect(Cgroup.of(0x3fffff)).rejects.toMatchObject({ reason: 'noSuchProcess' });
      await group.remove();
    });

    it('sweeps what the dead left, and nothing of the living', async () => {
      const mine = await make('mine');
      const script = `import { Cgroup } from ${JSON.stringify(`${import.meta.dirname}/index.ts`)};
        await Cgroup.create('theirs', { parent: ${JSON.stringify(parent)} }); process.kill(process.pid, 'SIGKILL');`;
      spawnSync(process.execPath, [...fromSources, '--input-type=module', '-e', script]);
      const swept = await Cgroup.sweep({ parent });
      expect(swept).toHaveLength(1);
      expect(swept[0]).toMatch(/^theirs@/);
      expect(existsSync(mine.path('pids') as string)).toBe(true);
      await mine.remove();
    });

    it('lowers memory as it is told: refused, reclaimed, forced', async () => {
      const group = await make('lower', { limits: { memory: { max: '64M', swap: { max: 0 } } } });
      // Anonymous memory that cannot be reclaimed without swap.
      const { pidfd } = run(
        group,
        'x=0123456789abcdef; while [ ${#x} -lt 16000000 ]; do x=$x$x; done; while :; do sleep 1; done',
      );
      await eventually(() => (group.stats().memory?.current ?? 0) > 16_000_000);
      await expect(group.set({ memory: { max: '4M' } })).rejects.toMatchObject({ reason: 'belowUsage', code: 'EBUSY' });
      await expect(
        group.set({ memory: { max: '4M' }, pids: { max: 5 } }, { lowering: 'reclaim', timeoutMs: 200 }),
      ).rejects.toMatchObject({ reason: 'belowUsage' });
      expect(group.stats().memory?.max).toBe(64 * 2 ** 20);
      expect(group.stats().pids?.max).toBe('max');
      if (group.path('memory')?.startsWith(layout.unified ?? '\0')) {
        expect(file(group, 'memory', 'memory.high')).toBe('max');
        await group.set({ memory: { max: '4M' } }, { lowering: 'force' });
        expect((await ended(pidfd))?.signal).toBe(9);
        expect(file(group, 'memory', 'memory.max')).toBe(String(4 * 2 ** 20));
      } else {
        await expect(group.set({ memory: { max: '4M' } }, { lowering: 'force' })).rejects.toMatchObject({
          reason: 'belowUsage',
        });
        await group.kill();
        await ended(pidfd);
      }
      await group.remove();
    });

    it('kills and thaws a group that somebody else removes as soon as it is empty', async () => {
      for (let round = 0; round < 10; round++) {
        const group = await make(`vanishing-${round}`);
        const paths = [group.path(), ...(['memory', 'pids', 'cpu', 'freezer'] as const).map((name) => group.path(name))]
          .filter((path) => path !== undefined)
          .filter((path) => existsSync(path));
        const { pidfd } = run(group, 'sleep 600; true');
        const remover = spawn(
          'sh',
          ['-c', 'for path do while [ -e "$path" ]; do rmdir "$path"; done; done', '', ...paths],
          {
            stdio: 'ignore',
          },
        );
        const removed = once(remover, 'exit');
        if (round % 2) await group.freeze();
        await group.kill();
        await group.thaw().catch((error: unknown) => expect(error).toMatchObject({ reason: 'removed' }));
        await removed;
        await group.kill();
        expect((await ended(pidfd))?.signal).toBe(9);
        expect(paths.filter((path) => existsSync(path))).toEqual([]);
        await group[Symbol.asyncDispose]();
      }
    });

    it('lowers memory without blocking, or says that the kernel cannot', async () => {
      const group = await make('nonblock', { limits: { memory: { max: '64M', swap: { max: 0 } } } });
      const { pidfd } = run(group, 'x=0123456789abcdef; while [ ${#x} -lt 16000000 ]; do x=$x$x; done; sleep 60; true');
      // It sleeps, and has what it has: on its way there it had more for a moment.
      await eventually(() => group.pids.length === 2);
      // Nobody in it allocates now.
      await group.freeze();
      const set = group.set({ memory: { max: '4M' } }, { lowering: 'nonblock' });
      const refusal = await set.then(
        () => undefined,
        (error: unknown) => error,
      );
      const alone = 'memory.limit_in_bytes';
      if (existsSync(`${group.path('memory')}/${alone}`)) {
        expect(refusal).toMatchObject({ code: 'EUNSUPPORTED' });
        expect(file(group, 'memory', alone)).toBe(String(64 * 2 ** 20));
        await group.thaw();
        await group.kill();
      } else {
        if (refusal) {
          expect(refusal).toMatchObject({ code: 'EUNSUPPORTED' });
          expect(file(group, 'memory', 'memory.max')).toBe(String(64 * 2 ** 20));
          // And so it is: the kernel kills before the write returns, O_NONBLOCK or not.
          const fd = openSync(`${group.path('memory')}/memory.max`, constants.O_WRONLY | constants.O_NONBLOCK);
          writeSync(fd, String(4 * 2 ** 20));
          closeSync(fd);
          expect(file(group, 'memory', 'memory.events')).not.toMatch(/^oom 0$/m);
        } else {
          expect(file(group, 'memory', 'memory.max')).toBe(String(4 * 2 ** 20));
          expect(file(group, 'memory', 'memory.events')).toMatch(/^oom 0$/m);
          expect(Number(file(group, 'memory', 'memory.current'))).toBeGreaterThan(16_000_000);
        }
        // What it allocates next is what it is killed for.
        await group.thaw();
        if (group.pids.length) await group.kill();
      }
      expect((await ended(pidfd))?.signal).toBe(9);
      // What it was tried on is gone.
      const beside = readdirSync(`${group.path('memory')}/..`).filter(
        (name) => name.startsWith('nonblock@') || name.startsWith('probe@'),
      );
      expect(beside).toEqual([group.name]);
      await group.remove();
    });

    it('reclaims caches until a lower limit fits', async () => {
      const group = await make('reclaim', { limits: { memory: { max: '128M', swap: { max: 0 } } } });
      const scratch = `/tmp/iso-test-${process.pid}`;
      const { pidfd } = run(
        group,
        `head -c 48000000 /dev/zero > ${scratch}; sync ${scratch}; cat ${scratch} > /dev/null; rm ${scratch}`,
      );
      // On a tmpfs the file counts as long as it is there, and cannot be reclaimed: removed, nothing is left to be judged.
      expect((await ended(pidfd))?.code).toBe(0);
      await group.set({ memory: { max: '8M' } }, { lowering: 'reclaim' });
      expect(group.stats().memory).toMatchObject({ max: 8 * 2 ** 20 });
      expect(group.stats().memory?.events?.oomKill).toBe(0);
      await group.remove();
    });

    it('takes memory back at once, or says that the kernel cannot', async () => {
      const group = await make('take-back', { limits: { memory: { max: '128M', swap: { max: 0 } } } });
      // The cache of a disk, which can be dropped, is the group's that reads it first; a device's own goes with its last reader.
      const scratch = `/tmp/iso-test-${process.pid}`;
      const fill = disk?.empty ? '' : `head -c 32000000 /dev/zero > ${scratch}; sync ${scratch};`;
      const read = `exec 4< ${disk?.empty ? disk.path : scratch}; head -c 32000000 <&4 > /dev/null`;
      const { pid, pidfd } = run(group, `${fill} ${read}; kill -STOP $$`);
      await eventually(() => /^State:\s+T/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')));
      if (hierarchyOf(layout, 'memory')?.version === 1) {
        expect(() => group.reclaim('8M')).toThrow(expect.objectContaining({ code: 'EUNSUPPORTED' }));
      } else {
        const current = () => Number(file(group, 'memory', 'memory.current'));
        const before = current();
        expect(before).toBeGreaterThan(24_000_000);
        expect(group.reclaim('8M')).toBe(true);
        expect(current()).toBeLessThan(before - 4_000_000);
        // More than there is: what can be taken is.
        expect(group.reclaim('1G')).toBe(false);
        expect(current()).toBeLessThan(8_000_000);
      }
      rmSync(scratch, { force: true });
      await group.kill();
      await ended(pidfd);
      await group.remove();
    });

    it('rolls back what was set before a refusal', async () => {
      const group = await make('rollback', { limits: { pids: { max: 9 }, cpu: { weight: 200 } } });
      const before = group.stats();
      await expect(
        group.set({ cpu: { weight: 50 }, pids: { max: 3 }, io: { max: [{ device: '9999:9', rbps: 1000 }] } }),
      ).rejects.toMatchObject({ reason: 'noSuchDevice', code: 'ENODEV' });
      expect(group.stats().pids?.max).toBe(9);
      expect(group.stats().cpu?.weight).toBe(before.cpu?.weight);
      await group.remove();
    });

    it('leaves nothing where a limit is refused', async () => {
      const bad: [unknown, unknown][] = [
        [{ memory: { max: '12Q' } }, TypeError],
        [{ memory: { max: -1 } }, TypeError],
        [{ memory: { max: Number.NaN } }, TypeError],
        [{ memory: { max: 2 ** 53 } }, TypeError],
        [{ memory: { maximum: 1 } }, TypeError],
        [{ pids: { max: -1 } }, TypeError],
        [{ pids: { max: 1.5 } }, TypeError],
        [{ cpu: { max: 0 } }, TypeError],
        [{ cpu: { weight: 0 } }, TypeError],
        [{ cpu: { weight: 10_001 } }, TypeError],
        [{ cpuset: { cpus: '1;2' } }, TypeError],
        [{ cpuset: { cpus: '', mems: 'x' } }, TypeError],
        [{ nonsense: {} }, TypeError],
        [{ devices: [{ allow: true, type: 'x' }] }, TypeError],
        [{ io: { max: [{ device: 'sda', rbps: 1 }] } }, TypeError],
        [{ io: { max: [{ device: '8:0', rbps: 0 }] } }, TypeError],
      ];
      for (const [limits, kind] of bad) {
        await expect(make('bad', { limits: limits as never }), JSON.stringify(limits)).rejects.toThrow(kind as never);
      }
      await expect(make('../bad')).rejects.toThrow(TypeError);
      await expect(make('bad', { parent: `${parent}/..` })).rejects.toThrow(TypeError);
      await expect(make('cgroup.procs')).rejects.toThrow(TypeError);
      await expect(make('bad', { limits: { pids: { max: 2 ** 40 } } })).rejects.toMatchObject({
        code: 'EINVAL',
        reason: 'invalidValue',
        file: 'pids.max',
        path: expect.stringContaining('pids.max'),
      });
      await expect(make('bad', { limits: { cpuset: { cpus: '9999' } } })).rejects.toMatchObject({
        reason: 'invalidValue',
      });
      for (const { mount } of detect().hierarchies) {
        const left = spawnSync('ls', [`${mount}/${parent}`], { encoding: 'utf8' }).stdout;
        expect(left).not.toContain('bad');
      }
    });

    it('takes no option that it does not know, and changes nothing', async () => {
      const group = await make('options', { limits: { pids: { max: 9 } } });
      const calls: [string, () => unknown][] = [
        ['create', () => make('bad', { limit: { pids: { max: 1 } } } as never)],
        ['create null', () => Cgroup.create('bad', null as never)],
        ['create a list', () => make('bad', { limits: [{ pids: { max: 1 } }] as never })],
        ['controllers', () => make('bad', { controllers: ['nonsense' as never] })],
        ['controllers no list', () => make('bad', { controllers: 'pids' as never })],
        ['threaded', () => make('bad', { threaded: 'yes' as never })],
        ['onUnsupported', () => make('bad', { onUnsupported: 'warn' as never })],
        ['parent', () => make('bad', { parent: 7 as never })],
        ['parent above', () => make('bad', { parent: `/${parent}/../..` })],
        ['layout beside a parent', () => make('bad', { parent: group })],
        ['child', () => group.create('bad', { parent: 'x' } as never)],
        ['child above', () => group.create('..')],
        ['set', () => group.set({ pids: { max: 3 } }, { lower: 'force' } as never)],
        ['set lowering', () => group.set({ pids: { max: 3 } }, { lowering: 'gently' as never })],
        ['set timeoutMs', () => group.set({ pids: { max: 3 } }, { timeoutMs: Number.NaN })],
        ['set a misspelt limit', () => group.set({ pids: { maximum: 3 } } as never)],
        ['set a controller that is none', () => group.set({ nonsense: { max: 3 } } as never)],
        ['plan', () => group.plan({ pids: { max: 3 } }, { version: 1 } as never)],
        ['open', () => Cgroup.open(`${parent}/../${parent}`, { layout })],
        ['open a child', () => group.open('../x')],
        ['of', () => Cgroup.of('../1' as never, { layout })],
        ['sweep', () => Cgroup.sweep({ parents: 'x' } as never)],
        ['stats', () => group.stats({ only: ['cpus' as never] })],
        ['events', () => group.events({ types: ['oom' as never] })],
        ['events signal', () => group.events({ signal: {} as never })],
        ['events pollMs', () => group.events({ pollMs: 2 ** 31 })],
        ['pressure signal', () => group.pressure('cpu', { stallUs: 1, windowUs: 2_000_000, signal: {} as never })],
        ['pressure', () => group.pressure('disk' as never, { stallUs: 1, windowUs: 2 })],
        ['peakWindow', () => group.peakWindow('cpu' as never)],
        ['freeze', () => group.freeze({ timeout: 1 } as never)],
        ['kill', () => group.kill({ timeoutMs: -1 })],
        ['move', () => group.move(-1)],
        ['moveAll', () => group.moveAll('x' as never)],
        ['remove', () => group.remove({ force: true } as never)],
        ['reclaim', () => group.reclaim('max')],
        ['read', () => group.read('../cgroup.procs')],
        ['write', () => group.write('pids.max', 3 as never)],
      ];
      for (const [name, call] of calls) {
        await expect((async () => call())(), name).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
      }
      expect(file(group, 'pids', 'pids.max')).toBe('9');
      expect(group.children()).toEqual([]);
      await group.remove();
      for (const { mount } of layout.hierarchies) {
        if (existsSync(`${mount}/${parent}`)) expect(readdirSync(`${mount}/${parent}`).join()).not.toContain('bad');
      }
    });

    it('extended attributes, as other programs see them', async () => {
      const group = await make('xattrs');
      const path = group.path() as string;
      expect(group.xattrs()).toEqual({});
      expect(group.xattr('user.delegate')).toBeUndefined();
      group.setXattr('user.delegate', '1');
      group.setXattr('trusted.oomd_kill', Buffer.from([0, 255, 10]));
      const seen = spawnSync('getfattr', ['-d', '-m', '-', '-e', 'hex', '--absolute-names', path], {
        encoding: 'utf8',
      });
      expect(seen.stdout).toContain('trusted.oomd_kill=0x00ff0a\nuser.delegate=0x31\n');
      spawnSync('setfattr', ['-n', 'user.theirs', '-v', 'x', path]);
      expect(group.xattrs()).toEqual({
        'trusted.oomd_kill': Buffer.from([0, 255, 10]),
        'user.delegate': Buffer.from('1'),
        'user.theirs': Buffer.from('x'),
      });
      for (const name of ['user.theirs', 'user.never']) group.setXattr(name, undefined);
      expect(group.xattr('user.theirs')).toBeUndefined();
      for (const name of ['delegate', 'user.', 'system.x', `user.${'x'.repeat(300)}`]) {
        expect(() => group.setXattr(name, '1'), name).toThrow(TypeError);
      }
      expect(() => group.setXattr('user.x', Buffer.alloc(65_537))).toThrow(TypeError);
      expect(() => group.setXattr('user.x', 1 as never)).toThrow(TypeError);
      await group.remove();
    });

    it('disposal finds a process that is in one of its hierarchies alone, or in a group below that', async () => {
      for (const [mount, below] of layout.hierarchies.flatMap((one) => [
        [one.mount, ''],
        [one.mount, '/below'],
      ])) {
        const group = await make('somewhere');
        const directories = layout.hierarchies.map((one) => `${one.mount}/${parent}/${group.name}`).filter(existsSync);
        const here = directories.find((path) => path.startsWith(`${mount}/`));
        const child = here && spawn('sleep', ['1000'], { stdio: 'ignore' });
        const exit = child && once(child, 'exit');
        if (child) {
          if (below) mkdirSync(`${here}${below}`);
          writeFileSync(`${here}${below}/cgroup.procs`, String(child.pid), { flag: 'r+' });
        }
        await group[Symbol.asyncDispose]();
        expect(await exit, `${here}${below}`).toEqual(child && [null, 'SIGKILL']);
        expect(directories.filter(existsSync)).toEqual([]);
      }
    });

    it('kills what is left where somebody else removed what freezes', async () => {
      const group = await make('unfrozen');
      const [pids, freezer] = [group.path('pids'), group.path('freezer')] as string[];
      const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
      const exit = once(child, 'exit');
      writeFileSync(`${pids}/cgroup.procs`, String(child.pid), { flag: 'r+' });
      if (freezer !== pids) rmdirSync(freezer as string);
      await group[Symbol.asyncDispose]();
      expect(await exit).toEqual([null, 'SIGKILL']);
      expect(existsSync(pids as string)).toBe(false);
    });

    it('removes what somebody gave another name, as v1 allows', async () => {
      const group = await make('renamed');
      const paths = layout.hierarchies.map(({ mount }) => `${mount}/${parent}/${group.name}`).filter(existsSync);
      const renamed = paths.filter((path) => spawnSync('mv', [path, `${path}-2`]).status === 0);
      expect(renamed.length).toBe(
        layout.hierarchies.filter((one) => one.version === 1 && paths.some((path) => path.startsWith(`${one.mount}/`)))
          .length,
      );
      await group[Symbol.asyncDispose]();
      expect([...paths, ...paths.map((path) => `${path}-2`)].filter(existsSync)).toEqual([]);
    });

    it('waits for ever where that is asked for', async () => {
      const group = await make('patient');
      const { pidfd } = run(group, 'while :; do :; done');
      for (let i = 0; i < 20; i++) {
        await group.freeze({ timeoutMs: Number.POSITIVE_INFINITY });
        await group.thaw({ timeoutMs: 2 ** 31 });
      }
      await group[Symbol.asyncDispose]();
      await ended(pidfd);
    });

    it('is removed by several at once, while it is killed', async () => {
      const group = await make('together');
      const below = await group.create('below');
      const child = run(below, 'sleep 1000');
      const all = [
        group.kill(),
        group[Symbol.asyncDispose](),
        below[Symbol.asyncDispose](),
        group[Symbol.asyncDispose](),
        group.remove({ recursive: true }),
        below.kill(),
      ];
      expect((await Promise.allSettled(all)).filter(({ status }) => status === 'rejected')).toEqual([]);
      expect(await ended(child.pidfd)).toMatchObject({ signal: 9 });
    });

    it('a group that is removed underneath: typed errors, and disposal goes through', async () => {
      const group = await make('underneath');
      const unread = await Cgroup.open(group.path('pids') as string, { layout });
      group.stats();
      const paths = layout.hierarchies.map(({ mount }) => `${mount}/${parent}/${group.name}`).filter(existsSync);
      for (const path of paths) rmdirSync(path);
      for (const one of [group, unread]) {
        expect(() => one.stats()).toThrow(CgroupError);
        expect(() => one.stats()).toThrow(expect.objectContaining({ reason: 'removed' }));
      }
      unread[Symbol.dispose]();
      await expect(group.set({ pids: { max: 1 } })).rejects.toMatchObject({ reason: 'removed' });
      await expect(group.move(process.pid)).rejects.toMatchObject({ reason: 'removed' });
      // One of the same name that is somebody else's is not touched.
      for (const path of paths) mkdirSync(path);
      await group[Symbol.asyncDispose]();
      for (const path of paths) rmdirSync(path);
      await expect(group.kill()).rejects.toMatchObject({ reason: 'removed' });
      expect(groupsOf('self').join()).not.toContain(parent);
    });
  });
}

it('makes nothing in a directory that is no cgroup file system', async () => {
  const folder = mkdtempSync(`${tmpdir()}/iso-test-`);
  for (const [type, options] of [
    ['cgroup2', 'rw'],
    ['cgroup', 'rw,pids,freezer'],
  ]) {
    const mountinfo = `30 23 0:26 / ${folder} rw - ${type} ${type} ${options}`;
    const made = Cgroup.create('x', { parent: 'y', layout: detect({ mountinfo, cgroup: '0::/\n' }), controllers: [] });
    await expect(made, type).rejects.toMatchObject({ code: 'EUNSUPPORTED' });
    expect(readdirSync(folder)).toEqual([]);
  }
  rmdirSync(folder);
});

it.skipIf(root)('says who can grant it [needs a plain user]', async () => {
  await expect(Cgroup.create('x', { parent })).rejects.toMatchObject({
    reason: expect.stringMatching(/notDelegated|readOnly/),
  });
});
