import { resolve } from 'node:path';
import { expect, it } from 'vitest';
import { settled } from './recipe.js';

it('makes volumes of paths beside us what they are from everywhere', () => {
  const volume = ['./vol:/mnt', '../vol:/mnt:ro', '.:/mnt', '/vol:/mnt', 'vol:/mnt', '', './vol'];
  expect(settled('/', { pull: 'missing', volume }).flags.volume).toEqual([
    `${resolve('vol')}:/mnt`,
    `${resolve('../vol')}:/mnt:ro`,
    `${resolve('.')}:/mnt`,
    '/vol:/mnt',
    // Of docker's a name, which is refused; no volumes, which are too.
    'vol:/mnt',
    '',
    './vol',
  ]);
});
