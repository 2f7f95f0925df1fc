import { expect, it } from 'vitest';
import type { Limits } from '../limits/limits.js';
import { propertiesOf } from './properties.js';

const of = (limits: Limits) =>
  Object.fromEntries(propertiesOf(limits).map(([name, { signature, value }]) => [name, [signature, value]]));
const NONE = 18_446_744_073_709_551_615n;

it('limits in the words of systemd', () => {
  expect(of({ memory: { max: '64M', high: 'max', low: 1, min: 0, swap: { max: 0 } }, pids: { max: 5 } })).toEqual({
    MemoryMax: ['t', 67_108_864n],
    MemoryHigh: ['t', NONE],
    MemoryLow: ['t', 1n],
    MemoryMin: ['t', 0n],
    MemorySwapMax: ['t', 0n],
    TasksMax: ['t', 5n],
  });
});

it.each([
  [{ max: 0.5 }, 500_000n, 100_000n],
  [{ max: 2 }, 2_000_000n, 100_000n],
  [{ max: 0.005 }, 5000n, 1_000_000n],
  [{ max: { quotaUs: 5000, periodUs: 20_000 } }, 250_000n, 20_000n],
  [{ max: { quotaUs: 50_000 } }, 500_000n, 100_000n],
])('processor time %j', (cpu, quota, period) => {
  expect(of({ cpu })).toEqual({ CPUQuotaPerSecUSec: ['t', quota], CPUQuotaPeriodUSec: ['t', period] });
});

it('no quota, weights, idle', () => {
  expect(of({ cpu: { max: 'max', weight: 59 } })).toEqual({ CPUQuotaPerSecUSec: ['t', NONE], CPUWeight: ['t', 59n] });
  expect(of({ cpu: { idle: true } })).toEqual({ CPUWeight: ['t', 0n] });
});

it('sets of processors as bits', () => {
  expect(of({ cpuset: { cpus: '0-1,9', mems: '0' } })).toEqual({
    AllowedCPUs: ['ay', Buffer.from([0b11, 0b10])],
    AllowedMemoryNodes: ['ay', Buffer.from([1])],
  });
  expect(of({ cpuset: { cpus: '' } })).toEqual({ AllowedCPUs: ['ay', Buffer.alloc(0)] });
});

it('devices by number', () => {
  expect(
    of({
      io: {
        weight: 50,
        max: [{ device: '9999:1', rbps: '1M', wiops: 'max' }],
        latency: [{ device: '9999:1', targetUs: 9 }],
      },
    }),
  ).toEqual({
    IOWeight: ['t', 50n],
    IOReadBandwidthMax: ['a(st)', [['/dev/block/9999:1', 1_048_576n]]],
    IOWriteIOPSMax: ['a(st)', [['/dev/block/9999:1', NONE]]],
    IODeviceLatencyTargetUSec: ['a(st)', [['/dev/block/9999:1', 9n]]],
  });
});

it('what systemd has no word for is left to the files', () => {
  expect(
    of({ cpu: { burstUs: 5 }, hugetlb: { '2MB': { max: 0 } }, misc: { x: 1 }, cgroup: { maxDepth: 1 }, devices: [] }),
  ).toEqual({});
});
