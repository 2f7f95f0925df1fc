import fc from 'fast-check';
import { expect, it } from 'vitest';
import { idMapText, parseIdMap } from './index.js';

it('writes what it parses', () => {
  const gaps = fc.array(fc.tuple(fc.integer({ min: 1, max: 1000 }), fc.integer({ min: 1, max: 1000 })), {
    minLength: 1,
    maxLength: 100,
  });
  fc.assert(
    fc.property(gaps, (pairs) => {
      let next = 0;
      const ranges = pairs.map(([gap, count]) => {
        const range = { inside: next + gap, outside: next + 2 * gap, count };
        next += 2 * gap + count;
        return range;
      });
      expect(parseIdMap(idMapText(ranges))).toEqual(ranges);
    }),
  );
});

it.each([
  [[]],
  [[{ inside: 0, outside: 0, count: 0 }]],
  [[{ inside: -1, outside: 0, count: 1 }]],
  [[{ inside: 0, outside: 2 ** 32, count: 1 }]],
  [[{ inside: 0, outside: 0, count: 2 ** 32 }]],
  [
    [
      { inside: 0, outside: 0, count: 10 },
      { inside: 9, outside: 20, count: 1 },
    ],
  ],
  [
    [
      { inside: 0, outside: 0, count: 10 },
      { inside: 10, outside: 9, count: 1 },
    ],
  ],
  [Array.from({ length: 341 }, (_, i) => ({ inside: i, outside: i, count: 1 }))],
])('refuses %j', (ranges) => {
  expect(() => idMapText(ranges)).toThrow(TypeError);
});
