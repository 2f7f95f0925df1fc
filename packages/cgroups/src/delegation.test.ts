import { expect, it } from 'vitest';
import { type Cgroup, delegate } from './index.js';

it('an id of more than 32 bits is refused: the kernel would cut 2^32 to root', () => {
  for (const bad of [2 ** 32, 2 ** 32 - 1, -1, 1.5, Number.NaN]) {
    for (const [uid, gid] of [
      [bad, 1],
      [1, bad],
    ] as const) {
      expect(() => delegate({} as Cgroup, uid, gid)).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
      );
    }
  }
});
