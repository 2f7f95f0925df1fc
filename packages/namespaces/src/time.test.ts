import fc from 'fast-check';
import { expect, it } from 'vitest';
import { timeOffsetsText } from './time.js';

it('splits seconds as the kernel takes them', () => {
  expect(timeOffsetsText({ monotonic: 1.5, boottime: -0.25 })).toBe('monotonic 1 500000000\nboottime -1 750000000\n');
  expect(timeOffsetsText({ boottime: 0 })).toBe('boottime 0 0\n');
  expect(timeOffsetsText({ monotonic: 2 - 1e-12 })).toBe('monotonic 2 0\n');
  expect(timeOffsetsText({})).toBe('');
});

it('loses less than a nanosecond’s rounding, and never writes what the kernel cannot read', () => {
  fc.assert(
    fc.property(fc.double({ min: -4_611_686_018, max: 4_611_686_018, noNaN: true }), (seconds) => {
      const [, whole = '', rest = ''] =
        /^monotonic (-?\d+) (\d{1,9})\n$/.exec(timeOffsetsText({ monotonic: seconds })) ?? [];
      expect(Number(whole) + Number(rest) / 1e9).toBeCloseTo(seconds, 5);
    }),
  );
});

it.each([Number.NaN, Number.POSITIVE_INFINITY, 1e300, -1e300, 4_611_686_019])('refuses %d', (seconds) => {
  expect(() => timeOffsetsText({ monotonic: seconds })).toThrow(TypeError);
});
