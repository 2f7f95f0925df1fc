// What limits on I/O do, measured by the processes that they slow down. The empty disk is the virtual machine's.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Cgroup, hierarchyOf, type Layout } from '../index.js';
import { atOnce, disk, ended, eventually, file, has, layouts, run, testParent, unified } from '../kit.js';

const parent = testParent('io');
const M = 2 ** 20;
const { number = '', path: device = '', empty = false } = disk ?? {};

type Count = 'rbytes' | 'wbytes' | 'rios' | 'wios';

/** What a group has read or written of the disk, as the kernel's file says. */
function counted(group: Cgroup, layout: Layout, what: Count): number {
  if (hierarchyOf(layout, 'io')?.version === 2) {
    return Number(new RegExp(`^${number} .*\\b${what}=(\\d+)`, 'm').exec(file(group, 'io', 'io.stat'))?.[1] ?? 0);
  }
  const name = what.endsWith('bytes') ? 'io_service_bytes' : 'io_serviced';
  const operation = what.startsWith('r') ? 'Read' : 'Write';
  const lines = file(group, 'io', `blkio.throttle.${name}`);
  return Number(new RegExp(`^${number} ${operation} (\\d+)`, 'm').exec(lines)?.[1] ?? 0);
}

/** Seconds that dd took, as it says itself: on an emulated processor its start alone takes long. */
async function seconds(group: Cgroup, words: string): Promise<number> {
  const report = join(tmpdir(), `iso-test-${process.pid}-${started++}`);
  const { pidfd } = run(group, `LC_ALL=C dd ${words} 2> ${report}`);
  const status = await ended(pidfd);
  const text = readFileSync(report, 'utf8');
  rmSync(report);
  expect(status?.code, text).toBe(0);
  return Number(/copied, ([\d.]+) s/.exec(text)?.[1]);
}
let started = 0;

/** Three seconds' worth of everything that can be throttled, all at the same time. */
const throttled = atOnce(async (layout) => {
  if (!has(layout, 'io') || !disk) throw new Error('a test that is skipped');
  const make = (name: string, max: object) =>
    Cgroup.create(`${name}-${layout.kind}`, { parent, layout, limits: { io: { max: [{ device, ...max }] } } });
  const bytes = await make('bytes', { rbps: '4M', wbps: '4M' });
  const operations = await make('operations', { riops: 100, wiops: 100 });
  const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
  const data = empty ? device : `${folder}/data`;
  if (!empty) writeFileSync(data, Buffer.alloc(12 * M), { flush: true });
  const written = (name: string) => (empty ? `${device} seek=64` : `${folder}/${name}`);
  const work: Record<Count, [Cgroup, string]> = {
    rbytes: [bytes, `if=${data} of=/dev/null bs=1M count=12 iflag=direct`],
    wbytes: [bytes, `if=/dev/zero of=${written('bytes')} bs=1M count=12 oflag=direct conv=notrunc`],
    rios: [operations, `if=${data} of=/dev/null bs=4k count=300 iflag=direct`],
    wios: [operations, `if=/dev/zero of=${written('operations')} bs=4k count=300 oflag=direct conv=notrunc`],
  };
  const measure = async ([what, [group, words]]: [string, [Cgroup, string]]) => {
    const times: number[] = [];
    // Never faster; and as fast, as soon as others leave the disk to it.
    do times.push(await seconds(group, words));
    while (times.length < 5 && (times.at(-1) as number) > 3.3);
    return [what, { fastest: Math.min(...times), counted: counted(group, layout, what as Count) }] as const;
  };
  try {
    return Object.fromEntries(await Promise.all(Object.entries(work).map(measure)));
  } finally {
    rmSync(folder, { recursive: true });
    for (const group of [bytes, operations]) await group[Symbol.asyncDispose]();
  }
});

for (const [kind, layout] of layouts) {
  describe.skipIf(!has(layout, 'io') || !disk)(`throttling on ${kind} [needs root, io, and a disk below /]`, () => {
    for (const [name, what, amount] of [
      ['reads, by bytes', 'rbytes', 12 * M],
      ['writes, by bytes', 'wbytes', 12 * M],
      ['reads, by operations', 'rios', 300],
      ['writes, by operations', 'wios', 300],
    ] as const) {
      it(`${name}, are as fast as they may be, within 10 %`, async () => {
        const { fastest, counted } = (await throttled(layout))[what] as { fastest: number; counted: number };
        expect(fastest).toBeGreaterThan(2.7);
        expect(fastest).toBeLessThan(3.3);
        expect(counted).toBeGreaterThanOrEqual(amount);
      });
    }
  });
}

describe.skipIf(!empty || !has(unified, 'io', 2))('I/O on unified [needs an empty disk: a virtual machine]', () => {
  const layout = unified as Layout;
  const setUp = (program: string, ...args: string[]) => execFileSync(program, args, { stdio: 'ignore' });

  it('limits by a path: the disk of the partition below it, and what is written back later is throttled', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
    setUp('addpart', device, '1', '2048', String(128 * 2048));
    setUp('mkfs.ext4', '-q', '-F', '-O', '^metadata_csum', `${device}1`);
    setUp('mount', '-t', 'ext4', `${device}1`, folder);
    const group = await Cgroup.create('path', {
      parent,
      layout,
      limits: { io: { max: [{ device: folder, wbps: '4M' }] } },
    });
    try {
      const line = (wbps: number) => `${number} rbps=max wbps=${wbps} riops=max wiops=max`;
      expect(file(group, 'io', 'io.max')).toBe(line(4 * M));
      const took = await seconds(group, `if=/dev/zero of=${folder}/data bs=1M count=12 conv=fsync`);
      expect(took).toBeGreaterThan(2.7);
      for (const [at, wbps] of [
        [`${device}1`, M],
        [`${folder}/data`, 2 * M],
        [number, 3 * M],
      ] as const) {
        await group.set({ io: { max: [{ device: at, wbps }] } });
        expect(file(group, 'io', 'io.max'), at).toBe(line(wbps));
      }
    } finally {
      await group[Symbol.asyncDispose]();
      setUp('umount', folder);
      setUp('delpart', device, '1');
      rmSync(folder, { recursive: true });
    }
  });

  it('weights share a busy disk, by the cost model that the root group has', async () => {
    const top = await Cgroup.open('/', { layout });
    const speed = { rbps: 8 * M, rseqiops: 1000, rrandiops: 1000, wbps: 8 * M, wseqiops: 1000, wrandiops: 1000 };
    const qos = { enable: 1, ctrl: 'user', rpct: 0, wpct: 0, min: 100, max: 100 };
    const groups: Cgroup[] = [];
    const pidfds = [];
    try {
      await top.set({ io: { cost: [{ device, qos, model: { ctrl: 'user', model: 'linear', ...speed } }] } });
      expect(readFileSync(`${layout.unified}/io.cost.qos`, 'utf8')).toMatch(
        new RegExp(`^${number} enable=1 ctrl=user rpct=0.00 .* min=100.00 max=100.00$`, 'm'),
      );
      expect(readFileSync(`${layout.unified}/io.cost.model`, 'utf8')).toContain(`rbps=${8 * M} rseqiops=1000`);
      for (const weight of [400, 100]) {
        const group = await Cgroup.create(`weight-${weight}`, { parent, layout, limits: { io: { weight } } });
        groups.push(group);
        pidfds.push(
          run(group, `while :; do dd if=${device} of=/dev/null bs=64k count=320 iflag=direct; done 2>&-`).pidfd,
        );
      }
      const [heavy, light] = groups as [Cgroup, Cgroup];
      const ratio = async () => {
        const before = groups.map((group) => counted(group, layout, 'rbytes'));
        await sleep(2000);
        const [a = 0, b = 1] = groups.map((group, i) => counted(group, layout, 'rbytes') - (before[i] as number));
        return a / b;
      };
      await eventually(() => counted(light, layout, 'rbytes') > M);
      expect(Math.abs((await ratio()) - 4)).toBeLessThan(0.8);
      await light.set({ io: { deviceWeight: [{ device, weight: 400 }] } });
      expect(file(light, 'io', 'io.weight')).toBe(`default 100\n${number} 400`);
      expect(Math.abs((await ratio()) - 1)).toBeLessThan(0.2);
      const usage = /cost\.usage=(\d+)/.exec(file(heavy, 'io', 'io.stat'))?.[1];
      expect(Number(usage)).toBeGreaterThan(0);
      expect(heavy.stats({ only: ['io'] }).io?.devices[number]?.more.costUsage).toBeGreaterThanOrEqual(Number(usage));
    } finally {
      for (const group of groups) await group[Symbol.asyncDispose]();
      for (const pidfd of pidfds) await ended(pidfd);
      await top.set({ io: { cost: [{ device, qos: { enable: 0 } }] } });
      top[Symbol.dispose]();
    }
  });

  it('where the disk has bfq, weights are its own', async () => {
    const scheduler = `/sys/block/${basename(device)}/queue/scheduler`;
    const before = /\[(.*)\]/.exec(readFileSync(scheduler, 'utf8'))?.[1] as string;
    setUp('modprobe', 'bfq');
    writeFileSync(scheduler, 'bfq');
    const group = await Cgroup.create('bfq', { parent, layout, limits: { io: { weight: 910 } } });
    try {
      expect(file(group, 'io', 'io.bfq.weight')).toBe('default 100');
      await group.set({ io: { bfqWeight: 300, deviceWeight: [{ device, weight: 4950 }] } });
      expect(file(group, 'io', 'io.bfq.weight')).toBe(`default 300\n${number} 500`);
      expect(group.stats().io?.bfqWeight).toBe(300);
    } finally {
      await group.remove();
      writeFileSync(scheduler, before);
      setUp('modprobe', '-r', 'bfq');
    }
  });
});
