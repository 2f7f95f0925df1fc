import { describe, expect, it } from 'vitest';
import { blkioToIoWeight, ioToBlkioWeight, sharesToWeight, weightToShares } from './convert.js';
import type { Limits } from './limits.js';
import { fromOCI, type OciResources, toOCI } from './oci.js';
import { plan } from './plan.js';

describe('fromOCI', () => {
  it('takes files of controllers only', () => {
    expect(fromOCI({ unified: { 'memory.high': '1', 'hugetlb.2MB.max': '0', 'cgroup.max.depth': '1' } })).toEqual({});
    for (const file of [
      'cgroup.procs',
      'cgroup.kill',
      'cgroup.threads',
      'cgroup.freeze',
      'tasks',
      '',
      'a.b/../cgroup.procs',
    ])
      expect(() => fromOCI({ unified: { [file]: '1' } }), file).toThrow(
        expect.objectContaining({
          code: 'ERR_INVALID_ARG_VALUE',
          message: expect.stringContaining(JSON.stringify(file)),
        }),
      );
  });

  it('understands a document as runc does', () => {
    const resources: OciResources = {
      memory: { limit: 100 << 20, swap: 300 << 20, reservation: 50 << 20 },
      cpu: { shares: 512, quota: 50_000, period: 100_000, cpus: '0-1', burst: 1000 },
      pids: { limit: -1 },
      blockIO: {
        weight: 500,
        throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 1000 }],
        throttleWriteIOPSDevice: [{ major: 8, minor: 0, rate: 0 }],
      },
      hugepageLimits: [{ pageSize: '2MB', limit: 4 << 20 }],
      devices: [
        { allow: false, access: 'rwm' },
        { allow: true, type: 'c', major: 136, minor: -1, access: 'rwm' },
      ],
      network: { classID: 7 },
    };
    expect(fromOCI(resources)).toEqual({
      memory: { max: 100 << 20, low: 50 << 20, swap: { max: 200 << 20 } },
      cpu: { weight: 59, max: { quotaUs: 50_000, periodUs: 100_000 }, burstUs: 1000 },
      cpuset: { cpus: '0-1' },
      pids: { max: 'max' },
      io: { weight: 4950, max: [{ device: '8:0', rbps: 1000, wiops: 'max' }] },
      hugetlb: { '2MB': { max: 4 << 20 } },
      devices: [
        { allow: false, type: 'a', access: 'rwm' },
        { allow: true, type: 'c', major: 136, minor: undefined, access: 'rwm' },
      ],
      net_cls: { classid: 7 },
    });
  });

  it('takes 0 for unset, -1 for none', () => {
    expect(fromOCI({ memory: { limit: 0 }, cpu: { shares: 0, quota: 0 }, pids: { limit: 0 } })).toEqual({
      memory: {},
      cpu: {},
    });
    expect(fromOCI({ memory: { limit: -1 } })).toEqual({ memory: { max: 'max', swap: { max: 'max' } } });
    expect(() => fromOCI({ memory: { swap: 100 } })).toThrow(RangeError);
  });

  it('its memory and swap become v2’s files, equal sums an explicit 0', () => {
    const limits = fromOCI({ memory: { limit: 1 << 20, swap: 1 << 20 } });
    expect(plan(limits, { version: 2 }).map(({ file, value }) => `${file}=${value}`)).toEqual([
      'memory.swap.max=0',
      `memory.max=${1 << 20}`,
    ]);
    expect(plan(limits, { version: 1 }).map(({ file, value }) => `${file}=${value}`)).toEqual([
      `memory.limit_in_bytes=${1 << 20}`,
      `memory.memsw.limit_in_bytes=${1 << 20}`,
    ]);
  });
});

describe('toOCI', () => {
  it('comes back as it went', () => {
    const limits: Limits = {
      memory: { max: 1 << 20, low: 1 << 19, swap: { max: 1 << 20 } },
      cpu: { weight: 59, max: { quotaUs: 50_000, periodUs: 100_000 }, burstUs: 10 },
      cpuset: { cpus: '0' },
      pids: { max: 7 },
      io: { weight: 4950, max: [{ device: '8:0', rbps: 5, wiops: 6 }] },
      hugetlb: { '1GB': { max: 1 << 30 } },
      devices: [{ allow: true, type: 'c', major: 1, minor: 3, access: 'rw' }],
      net_cls: { classid: 5 },
      net_prio: { ifpriomap: { eth0: 3 } },
      rdma: { mlx5_0: { hcaHandle: 1, hcaObject: 2 } },
    };
    expect(fromOCI(toOCI(limits))).toEqual(limits);
  });

  it('names v2 files for what it has no words for', () => {
    expect(toOCI({ memory: { high: '1M', oomGroup: true, swap: { max: 'max' } } }).unified).toEqual({
      'memory.high': String(1 << 20),
      'memory.oom.group': '1',
      'memory.swap.max': 'max',
    });
  });
});

describe('toOCI loses no limit', () => {
  it('where 0 or -1 has another meaning there', () => {
    const cases: [Limits, OciResources][] = [
      [{ pids: { max: 0 } }, { unified: { 'pids.max': '0' } }],
      [{ memory: { max: 0 } }, { memory: {}, unified: { 'memory.max': '0' } }],
      [
        { memory: { max: 'max', swap: { max: '1M' } } },
        { memory: { limit: -1 }, unified: { 'memory.swap.max': '1048576' } },
      ],
      [{ memory: { max: 'max', swap: { max: 0 } } }, { memory: { limit: -1 }, unified: { 'memory.swap.max': '0' } }],
      [{ memory: { max: 'max', swap: { max: 'max' } } }, { memory: { limit: -1, swap: -1 } }],
      [
        { hugetlb: { '2MB': { max: 'max', rsvdMax: '2M' }, '1GB': { max: 0 } } },
        {
          hugepageLimits: [{ pageSize: '1GB', limit: 0 }],
          unified: { 'hugetlb.2MB.max': 'max', 'hugetlb.2MB.rsvd.max': '2097152' },
        },
      ],
      [
        { cgroup: { maxDepth: 0, maxDescendants: 'max' } },
        { unified: { 'cgroup.max.depth': '0', 'cgroup.max.descendants': 'max' } },
      ],
    ];
    for (const [limits, resources] of cases) expect(toOCI(limits), JSON.stringify(limits)).toEqual(resources);
  });

  it('takes numbers that are integers alone', () => {
    const odd = [null, 'x', { pids: { limit: Number.NaN } }, { cpu: { shares: 1.5 } }, { blockIO: { weight: -1 } }];
    for (const resources of odd)
      expect(() => fromOCI(resources as never), JSON.stringify(resources)).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
      );
    expect(() => fromOCI({ memory: { limit: 2, swap: 1 } })).toThrow(
      expect.objectContaining({ name: 'RangeError', code: 'ERR_OUT_OF_RANGE' }),
    );
    for (const convert of [sharesToWeight, weightToShares, blkioToIoWeight, ioToBlkioWeight])
      expect(() => convert(Number.NaN)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
  });

  it('where a device is a path', () => {
    expect(() => toOCI({ io: { max: [{ device: '/none', rbps: 1 }] } })).toThrow(
      expect.objectContaining({ reason: 'noSuchDevice' }),
    );
    const [one] = toOCI({ io: { max: [{ device: '/', rbps: 1 }] } }).blockIO?.throttleReadBpsDevice ?? [];
    expect([one?.major, one?.minor].every(Number.isInteger)).toBe(true);
  });
});
