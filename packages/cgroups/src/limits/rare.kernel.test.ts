// Controllers that few machines have where they can be tried: a virtual machine is given their hierarchies and a device.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Cgroup, detect, type Layout, type Limits } from '../index.js';
import { ended, file, has, run, testParent, unified } from '../kit.js';

const parent = testParent('rare');
const machine = process.env.ISO_VM !== undefined;
const M = 2 ** 20;

/** Does something, again where something of the kernel's is still on its way: a hierarchy goes some time after its last mount. */
async function settle(act: () => void): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      return act();
    } catch (error) {
      if (tries === 20) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

const setUp = (program: string, ...args: string[]) => settle(() => void execFileSync(program, args, { stdio: 'pipe' }));

describe.skipIf(!machine || !unified)('limits on hybrid [needs v1 hierarchies of its own: a virtual machine]', () => {
  const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
  const places = ['net_cls,net_prio', 'perf_event', 'hugetlb'].map((names) => [names, `${folder}/${names}`] as const);
  const control = `${unified?.unified}/cgroup.subtree_control`;
  let layout: Layout;

  beforeAll(async () => {
    // A controller that v2 gives its groups cannot be mounted elsewhere.
    writeFileSync(control, '-hugetlb', { flag: 'r+' });
    for (const [names, path] of places) {
      mkdirSync(path);
      await setUp('mount', '-t', 'cgroup', '-o', names, 'cgroup', path);
      mkdirSync(`${path}/${parent}`);
    }
    layout = detect();
  });
  afterAll(async () => {
    for (const [, path] of places) {
      if (existsSync(`${path}/${parent}`)) rmdirSync(`${path}/${parent}`);
      await setUp('umount', path);
    }
    rmSync(folder, { recursive: true });
    await settle(() => writeFileSync(control, '+hugetlb', { flag: 'r+' }));
  });

  const rows: [name: string, limits: Limits, controller: 'net_cls' | 'net_prio' | 'hugetlb', text: string | RegExp][] =
    [
      ['net_cls: net_cls.classid', { net_cls: { classid: 0x100001 } }, 'net_cls', String(0x100001)],
      ['net_prio: net_prio.ifpriomap', { net_prio: { ifpriomap: { lo: 3 } } }, 'net_prio', /^lo 3$/m],
      ['hugetlb by page: hugetlb.2MB.limit_in_bytes', { hugetlb: { '2MB': { max: '5M' } } }, 'hugetlb', String(4 * M)],
      [
        'hugetlb: hugetlb.2MB.rsvd.limit_in_bytes',
        { hugetlb: { '2MB': { max: '4M', rsvdMax: '8M' } } },
        'hugetlb',
        String(8 * M),
      ],
    ];
  it.each(rows)('%s', async (name, limits, controller, text) => {
    const group = await Cgroup.create('row', { parent, layout, controllers: [], limits });
    const shown = file(group, controller, name.split(': ')[1] as string);
    if (typeof text === 'string') expect(shown).toBe(text);
    else expect(shown).toMatch(text);
    await group.remove();
  });

  it('perf_event', async () => {
    const group = await Cgroup.create('perf', { parent, layout, controllers: ['perf_event', 'net_cls'] });
    const { pid, pidfd } = run(group, 'sleep 60; true');
    const lines = readFileSync(`/proc/${pid}/cgroup`, 'utf8');
    for (const names of ['perf_event', 'net_cls,net_prio', '']) {
      expect(lines).toMatch(new RegExp(`^\\d+:${names}:/${parent}/${group.name}$`, 'm'));
    }
    expect(group.path('perf_event')).toBe(`${folder}/perf_event/${parent}/${group.name}`);
    expect(file(group, 'perf_event', 'cgroup.procs').split('\n')).toContain(String(pid));
    await group.kill();
    expect((await ended(pidfd))?.signal).toBe(9);
    await group.remove();
  });
});

describe.skipIf(!machine || !has(unified, 'rdma', 2))(
  'limits on unified [needs an RDMA device: a virtual machine]',
  () => {
    beforeAll(async () => {
      await setUp('ip', 'link', 'add', 'iso-rdma', 'type', 'dummy');
      await setUp('ip', 'link', 'set', 'iso-rdma', 'up');
      await setUp('modprobe', 'rdma_rxe');
      await setUp('rdma', 'link', 'add', 'rxe0', 'type', 'rxe', 'netdev', 'iso-rdma');
    });
    afterAll(async () => {
      await setUp('rdma', 'link', 'delete', 'rxe0');
      await setUp('ip', 'link', 'delete', 'iso-rdma');
    });

    it('rdma: rdma.max', async () => {
      const group = await Cgroup.create('rdma', {
        parent,
        limits: { rdma: { rxe0: { hcaHandle: 2, hcaObject: 'max' } } },
      });
      expect(file(group, 'rdma', 'rdma.max')).toBe('rxe0 hca_handle=2 hca_object=max');
      expect(group.stats().rdma?.rxe0?.max).toMatchObject({ hcaHandle: 2 });
      await group.set({ rdma: { rxe0: { hcaHandle: 'max' } } });
      expect(file(group, 'rdma', 'rdma.max')).toBe('rxe0 hca_handle=max hca_object=max');
      await expect(group.set({ rdma: { none0: { hcaHandle: 1 } } })).rejects.toMatchObject({ reason: 'noSuchDevice' });
      await group.remove();
    });
  },
);
