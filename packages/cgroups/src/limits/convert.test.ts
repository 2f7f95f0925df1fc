import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { blkioToIoWeight, ioToBlkioWeight, memswToSwap, sharesToWeight, weightToShares } from './convert.js';

describe('sharesToWeight', () => {
  // Values of runc's and crun's own tests.
  it.each([
    [0, 0],
    [1, 1],
    [2, 1],
    [3, 2],
    [10, 4],
    [100, 17],
    [102, 17],
    [256, 35],
    [512, 59],
    [1000, 99],
    [1024, 100],
    [1025, 101],
    [2048, 174],
    [4096, 303],
    [65536, 3023],
    [262143, 10000],
    [262144, 10000],
    [300000, 10000],
  ])('%i -> %i', (shares, weight) => expect(sharesToWeight(shares)).toBe(weight));

  it('has an inverse for every weight, the smallest', () => {
    for (let weight = 1; weight <= 10_000; weight++) {
      const shares = weightToShares(weight);
      expect(sharesToWeight(shares)).toBe(weight);
      if (weight !== 100 && shares > 2) expect(sharesToWeight(shares - 1)).toBeLessThan(weight);
    }
  });
});

describe('blkio weights', () => {
  it.each([
    [10, 1],
    [100, 910],
    [500, 4950],
    [1000, 10000],
  ])('%i -> %i', (blkio, io) => expect(blkioToIoWeight(blkio)).toBe(io));

  it('come back unchanged', () => {
    for (let weight = 10; weight <= 1000; weight++) expect(ioToBlkioWeight(blkioToIoWeight(weight))).toBe(weight);
  });

  it('stay within bfq’s bounds', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10_000 }), (weight) => {
        const bfq = ioToBlkioWeight(weight);
        return bfq >= 10 && bfq <= 1000;
      }),
    );
  });
});

describe('memswToSwap', () => {
  it.each([
    [300, 100, 200],
    [100, 100, 0],
    [-1, 100, 'max'],
    [-1, -1, 'max'],
    [undefined, -1, 'max'],
    [0, -1, 'max'],
    [100, -1, 100],
    [0, 100, undefined],
    [undefined, undefined, undefined],
  ])('%s of %s -> %s', (memsw, memory, swap) => expect(memswToSwap(memsw, memory)).toBe(swap));

  it('refuses what does not go together', () => {
    expect(() => memswToSwap(100, undefined)).toThrow(RangeError);
    expect(() => memswToSwap(100, 200)).toThrow(RangeError);
  });
});
