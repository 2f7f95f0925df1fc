import { cpus } from 'node:os';
import { describe, expect, it } from 'vitest';
import { parseDevice } from './device.js';
import { UsageError } from './options.js';
import { limitsOf, type Resources } from './resources.js';

const M = 2 ** 20;

describe('resources', () => {
  it('become limits with the meaning of cgroups', () => {
    expect(limitsOf({})).toEqual({});
    expect(limitsOf({ memory: 64 * M })).toEqual({ memory: { max: 64 * M, swap: { max: 0 } } });
    expect(limitsOf({ memory: 64 * M, memorySwap: 96 * M, memoryReservation: 32 * M, oomKillDisable: true })).toEqual({
      memory: { max: 64 * M, swap: { max: 32 * M }, low: 32 * M, oomKillDisable: true },
    });
    expect(limitsOf({ memory: 64 * M, memorySwap: -1 }).memory?.swap).toEqual({ max: 'max' });
    expect(limitsOf({ cpus: 0.5, cpuShares: 1024, cpusetCpus: '0', cpusetMems: '0', pidsLimit: -1 })).toEqual({
      cpu: { max: 0.5, weight: 100 },
      cpuset: { cpus: '0', mems: '0' },
      pids: { max: 'max' },
    });
    // Of one device all rates are one limit.
    expect(
      limitsOf({
        blkioWeight: 500,
        deviceReadBps: [{ device: '/', rate: M }],
        deviceWriteIops: [
          { device: '8:0', rate: 5 },
          { device: '/', rate: 0 },
        ],
      }),
    ).toEqual({
      io: {
        weight: 4950,
        max: [
          { device: '/', rbps: M, wiops: 'max' },
          { device: '8:0', wiops: 5 },
        ],
      },
    });
  });

  it('of a container that runs leave alone what is not named', () => {
    const present = { memory: 64 * M, swap: 16 * M };
    expect(limitsOf({ memory: 128 * M }, present)).toEqual({ memory: { max: 128 * M, swap: { max: 16 * M } } });
    expect(limitsOf({ memorySwap: 96 * M }, present)).toEqual({ memory: { swap: { max: 32 * M } } });
    expect(limitsOf({ pidsLimit: 3 }, present)).toEqual({ pids: { max: 3 } });
    expect(() => limitsOf({ memoryReservation: 65 * M }, present)).toThrow(UsageError);
  });

  it.each([
    { memory: 5 * M },
    { memory: Number.NaN },
    { memory: 2 ** 53 },
    { memorySwap: 64 * M },
    { memory: 64 * M, memorySwap: 32 * M },
    { memory: 64 * M, memorySwap: -2 },
    { memory: 64 * M, memoryReservation: 65 * M },
    { oomKillDisable: true },
    { cpus: 0 },
    { cpus: Number.NaN },
    { cpus: cpus().length + 1 },
    { cpuShares: 1 },
    { cpuShares: 262_145 },
    { cpusetCpus: '' },
    { cpusetCpus: '0;1' },
    { cpusetMems: '-1' },
    { pidsLimit: 0 },
    { pidsLimit: 1.5 },
    { blkioWeight: 9 },
    { blkioWeight: 1001 },
    { deviceReadBps: [{ device: '/no/such', rate: 1 }] },
    { deviceReadBps: [{ device: '8:0', rate: -1 }] },
  ] satisfies Resources[])('refuse %j', (resources) => {
    expect(() => limitsOf(resources)).toThrow(UsageError);
  });
});

describe('a device', () => {
  it('is read as docker does', () => {
    expect(parseDevice('/dev/a')).toEqual({ source: '/dev/a' });
    expect(parseDevice('/dev/a:rw')).toEqual({ source: '/dev/a', access: 'rw' });
    expect(parseDevice('/dev/a:/dev/b')).toEqual({ source: '/dev/a', target: '/dev/b' });
    expect(parseDevice('/dev/a:/dev/b:m')).toEqual({ source: '/dev/a', target: '/dev/b', access: 'm' });
    for (const text of ['', 'dev/a', '/dev/a:', '/dev/a:x', '/dev/a:rr', '/dev/a:b:r', '/dev/a:/dev/b:r:w', '/a:/b:/c'])
      expect(() => parseDevice(text), text).toThrow(UsageError);
  });
});
