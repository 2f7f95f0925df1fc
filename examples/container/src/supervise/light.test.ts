import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { unchangedFiles } from './light.js';

const smaps = `5555-6666 r-xp 00001000 08:01 42 /usr/bin/some program
Rss:     100 kB
Anonymous:             0 kB
6666-7777 r--p 00002000 08:01 42 /usr/bin/some program
Rss:     100 kB
Anonymous:             4 kB
7777-8888 rw-p 00003000 08:01 42 /usr/bin/some program
Anonymous:             0 kB
8888-9999 r-xp 00000000 00:00 0
Anonymous:             0 kB
9999-aaaa r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
`;

it('only what a file still has is given back: neither relocations nor memory of its own', () => {
  expect(unchangedFiles(smaps)).toEqual([{ start: 0x5555n, end: 0x6666n }]);
  const own = unchangedFiles(readFileSync('/proc/self/smaps', 'utf8'));
  expect(own.length).toBeGreaterThan(0);
});
