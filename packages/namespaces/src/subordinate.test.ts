import fc from 'fast-check';
import { expect, it } from 'vitest';
import { idMapText, parseSubordinateIds, subordinateMap } from './index.js';

it('parses subuid files', () => {
  expect(parseSubordinateIds('# x\nanna:100000:65536\n1000:200000:10\nbad line\nx:y:z\n')).toEqual([
    { owner: 'anna', start: 100_000, count: 65_536 },
    { owner: '1000', start: 200_000, count: 10 },
  ]);
});

it('maps everything that a user has, each id once', () => {
  expect(subordinateMap(1000, [{ start: 100_000, count: 65_536 }])).toEqual([
    { inside: 0, outside: 1000, count: 1 },
    { inside: 1, outside: 100_000, count: 65_536 },
  ]);
  // Its own id in the middle of a range: a hole there, no id lost.
  expect(subordinateMap(5, [{ start: 0, count: 10 }])).toEqual([
    { inside: 0, outside: 5, count: 1 },
    { inside: 1, outside: 0, count: 5 },
    { inside: 6, outside: 6, count: 4 },
  ]);
});

it('never overlaps, keeps the count, has 0 and no hole inside', () => {
  const range = fc.record({ start: fc.integer({ min: 0, max: 300 }), count: fc.integer({ min: 0, max: 60 }) });
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 400 }), fc.array(range, { maxLength: 8 }), (id, ranges) => {
      const map = subordinateMap(id, ranges);
      const outside = map.flatMap((part) => Array.from({ length: part.count }, (_, i) => part.outside + i));
      const inner = map.flatMap((part) => Array.from({ length: part.count }, (_, i) => part.inside + i));
      const all = new Set([
        id,
        ...ranges.flatMap(({ start, count }) => Array.from({ length: count }, (_, i) => start + i)),
      ]);
      expect(outside.length).toBe(all.size);
      expect(new Set(outside)).toEqual(all);
      expect(inner).toEqual(Array.from({ length: all.size }, (_, i) => i));
      expect(map[0]).toEqual({ inside: 0, outside: id, count: 1 });
      expect(idMapText(map)).toBeTruthy();
    }),
    { numRuns: 2000 },
  );
});
