import { expect, it } from 'vitest';
import { mountTable, parseMountInfo } from './index.js';

it('parses every field and escape', () => {
  const [mount] = parseMountInfo(
    '36 35 98:0 /mnt1 /mnt\\0402\\134\\012 rw,noatime shared:1 master:2 - ext3 /dev/ro\\054ot rw,errors=continue\n',
  );
  expect(mount).toEqual({
    id: 36,
    parentId: 35,
    device: '98:0',
    root: '/mnt1',
    target: '/mnt 2\\\n',
    options: ['rw', 'noatime'],
    propagation: ['shared:1', 'master:2'],
    type: 'ext3',
    source: '/dev/ro,ot',
    superOptions: ['rw', 'errors=continue'],
  });
});

it('reads this process’s own', () => {
  expect(mountTable().find((mount) => mount.target === '/proc')?.type).toBe('proc');
});
