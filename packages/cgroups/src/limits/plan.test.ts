import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Limits } from './limits.js';
import { type PlanOptions, plan } from './plan.js';

const lines = (limits: Limits, version: 1 | 2, files: Record<string, string> = {}) => {
  const options: PlanOptions = { version, read: (_, file) => files[file] };
  return plan(limits, options).map(({ file, value }) => `${file}=${value}`);
};
const M = 2 ** 20;

describe('plan', () => {
  it('raises v1 memory and swap together first, lowers memory first', () => {
    const files = { 'memory.limit_in_bytes': String(64 * M), 'memory.memsw.limit_in_bytes': String(64 * M) };
    expect(lines({ memory: { max: '128M', swap: { max: 0 } } }, 1, files)).toEqual([
      `memory.memsw.limit_in_bytes=${128 * M}`,
      `memory.limit_in_bytes=${128 * M}`,
    ]);
    expect(lines({ memory: { max: '32M', swap: { max: 0 } } }, 1, files)).toEqual([
      `memory.limit_in_bytes=${32 * M}`,
      `memory.memsw.limit_in_bytes=${32 * M}`,
    ]);
    expect(lines({ memory: { max: 'max', swap: { max: 'max' } } }, 1, files)).toEqual([
      'memory.memsw.limit_in_bytes=-1',
      'memory.limit_in_bytes=-1',
    ]);
    expect(() => lines({ memory: { max: '128M' } }, 1, files)).toThrow(/swap/);
    expect(() => lines({ memory: { swap: { max: '1M' } } }, 1)).toThrow(/memory.max/);
  });

  it('lowers a burst first, raises it last', () => {
    expect(lines({ cpu: { max: 1, burstUs: 500 } }, 2, { 'cpu.max.burst': '9000' })).toEqual([
      'cpu.max.burst=500',
      'cpu.max=100000 100000',
    ]);
    expect(lines({ cpu: { max: 1, burstUs: 500 } }, 2, { 'cpu.max.burst': '0' })).toEqual([
      'cpu.max=100000 100000',
      'cpu.max.burst=500',
    ]);
  });

  it('never asks v1 for a larger share of the processor than both ends have', () => {
    const period = fc.integer({ min: 1000, max: 1_000_000 });
    const quota = fc.integer({ min: 1000, max: 1_000_000 });
    fc.assert(
      fc.property(quota, period, quota, period, (oldQuota, oldPeriod, quotaUs, periodUs) => {
        const state = { quota: oldQuota, period: oldPeriod };
        const most = Math.max(oldQuota / oldPeriod, quotaUs / periodUs);
        for (const line of lines({ cpu: { max: { quotaUs, periodUs } } }, 1, {
          'cpu.cfs_quota_us': String(oldQuota),
          'cpu.cfs_period_us': String(oldPeriod),
        })) {
          const [file, value] = line.split('=');
          if (file === 'cpu.cfs_quota_us') state.quota = Number(value);
          else state.period = Number(value);
          expect(state.quota / state.period).toBeLessThanOrEqual(most + 1e-9);
        }
        expect(state).toEqual({ quota: quotaUs, period: periodUs });
      }),
    );
  });

  it('writes one device a time, max and not 0 for none on v2', () => {
    const io: Limits = {
      io: {
        max: [
          { device: '8:0', rbps: '1M', wiops: 'max' },
          { device: '8:16', wbps: 5 },
        ],
      },
    };
    expect(lines(io, 2)).toEqual([`io.max=8:0 rbps=${M} wiops=max`, 'io.max=8:16 wbps=5']);
    expect(lines(io, 1)).toEqual([
      `blkio.throttle.read_bps_device=8:0 ${M}`,
      'blkio.throttle.write_iops_device=8:0 0',
      'blkio.throttle.write_bps_device=8:16 5',
    ]);
  });

  it('prefers the weight of bfq where bfq is', () => {
    expect(lines({ io: { weight: 910 } }, 2)).toEqual(['io.weight=default 910']);
    expect(lines({ io: { weight: 910 } }, 2, { 'io.bfq.weight': 'default 100' })).toEqual([
      'io.bfq.weight=default 100',
    ]);
    expect(lines({ io: { weight: 910 } }, 1)).toEqual(['blkio.weight=100']);
  });

  it('clears a cpuset by a newline on v2, refuses that on v1', () => {
    expect(lines({ cpuset: { cpus: '' } }, 2)).toEqual(['cpuset.cpus=\n']);
    expect(() => lines({ cpuset: { cpus: '' } }, 1)).toThrow(TypeError);
  });

  it('plans what only other machines have', () => {
    expect(
      lines(
        {
          rdma: { mlx4_0: { hcaHandle: 2, hcaObject: 'max' } },
          misc: { sev_es: 9 },
          dmem: { 'drm/0/vram': { max: '1G' } },
        },
        2,
      ),
    ).toEqual(['rdma.max=mlx4_0 hca_handle=2 hca_object=max', 'misc.max=sev_es 9', `dmem.max=drm/0/vram ${2 ** 30}`]);
    expect(lines({ net_cls: { classid: 1 }, net_prio: { ifpriomap: { eth0: 5 } } }, 1)).toEqual([
      'net_cls.classid=1',
      'net_prio.ifpriomap=eth0 5',
    ]);
    expect(lines({ cpu: { rt: { runtimeUs: 1000, periodUs: 2000 } } }, 1, { 'cpu.rt_period_us': '1000000' })).toEqual([
      'cpu.rt_runtime_us=1000',
      'cpu.rt_period_us=2000',
    ]);
    expect(lines({ io: { cost: [{ device: '8:0', qos: { enable: 1 }, model: { ctrl: 'auto' } }] } }, 2)).toEqual([
      'io.cost.model=8:0 ctrl=auto',
      'io.cost.qos=8:0 enable=1',
    ]);
  });

  it('refuses what a version lacks, or leaves it out where it is told to', () => {
    expect(() => plan({ memory: { high: 1 } }, { version: 1 })).toThrow(/v1 has no such limit/);
    expect(() => plan({ net_cls: { classid: 1 } }, { version: 2 })).toThrow(/v2 has no such limit/);
    expect(plan({ memory: { high: 1 } }, { version: 1, onUnsupported: 'ignore' })).toEqual([]);
  });

  it('takes any value, or throws a TypeError: never NaN, never half', () => {
    const value = fc.oneof(fc.integer(), fc.double(), fc.string(), fc.constant(undefined), fc.boolean(), fc.bigInt());
    fc.assert(
      fc.property(fc.constantFrom('max', 'low'), value, fc.constantFrom(1, 2), (key, given, version) => {
        try {
          for (const { value } of plan({ memory: { [key]: given } } as Limits, { version: version as 1 | 2 })) {
            expect(value).toMatch(/^(max|-1|\d+)$/);
            expect(Number(value === 'max' ? 0 : value)).toBeLessThanOrEqual(2 ** 53);
          }
        } catch (error) {
          expect(error).toBeInstanceOf(TypeError);
        }
      }),
    );
  });
});
