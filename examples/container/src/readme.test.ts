import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { containerShape } from './container-shape.js';

it('has every option of run(), and no other', () => {
  const text = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const [, table = ''] = /^\| option of `run\(\)`.*\n((?:\|.*\n)+)/m.exec(text) ?? [];
  const rows = table.split('\n').slice(1, -1);
  const listed = rows.flatMap((row) => [...(row.split('|')[1] as string).matchAll(/`(\w+)`/g)].map(([, name]) => name));
  expect(listed.sort()).toEqual(Object.keys(containerShape).sort());
});
