import { expect, it } from 'vitest';
import { sample } from './sampler.js';
import type { Stats } from './stats.js';

it('an interval that no timer takes is refused, and not made 1 ms', async () => {
  const group = { stats: () => ({ atMs: performance.now(), absent: {} }) as Stats };
  for (const intervalMs of [2 ** 31, 1e12, Number.POSITIVE_INFINITY, Number.NaN, 0, -1, '5' as never]) {
    const rounds = sample(group, { intervalMs });
    await expect(rounds.next(), String(intervalMs)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
  }
});
