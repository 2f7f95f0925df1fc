// What patterns find in a directory: names are bytes, and ways that lead to the same are gone once. No privilege.
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Fd } from '@iso/sys';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findSources, findWithParents, walkSource } from './source.js';

let folder = '';
const at = (name: string) => join(folder, name);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-source-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('what a pattern finds', () => {
  it('has any bytes in its name', () => {
    const names = [Buffer.from('caf\xe9', 'latin1'), Buffer.from('caf\xe8', 'latin1'), Buffer.from('café')].sort(
      Buffer.compare,
    );
    for (const name of names) {
      const directory = Buffer.concat([Buffer.from(at('d-')), name]);
      mkdirSync(directory);
      writeFileSync(Buffer.concat([directory, Buffer.from('/'), name]), 'x');
    }
    using directory = Fd.open(folder, { directory: true });
    const root = { fd: directory.number };
    for (const [pattern, deep] of [
      ['d-*/c*', false],
      ['d-caf?/caf?', false],
      ['**/caf*', true],
    ] as const) {
      const found = findSources(root, pattern, { deep });
      expect([pattern, found.map(({ name }) => name.toString('hex'))]).toEqual([
        pattern,
        names.map((name) => name.toString('hex')),
      ]);
    }
    const [source] = findWithParents(root, ['d-*/c*']);
    const walked = [...walkSource(root, source as NonNullable<typeof source>)].map(({ path }) => path.toString('hex'));
    const both = names.flatMap((name) => [
      `d-${name.toString('latin1')}`,
      `d-${name.toString('latin1')}/${name.toString('latin1')}`,
    ]);
    expect(walked).toEqual(['', ...both.map((path) => Buffer.from(path, 'latin1').toString('hex'))]);
  });

  it('is found once, however many ways lead there', () => {
    const deepest = Array(30).fill('d').join('/');
    mkdirSync(at(deepest), { recursive: true });
    writeFileSync(at(`${deepest}/f`), 'x');
    for (const name of ['one', 'two', 'three']) symlinkSync('.', at(name));
    using directory = Fd.open(folder, { directory: true });
    const root = { fd: directory.number };
    const count = (pattern: string) => findSources(root, pattern, { deep: true }).length;
    const begun = performance.now();
    expect(count(`${'**/'.repeat(12)}f`)).toBe(1);
    expect(count(`${'**/d/'.repeat(12)}**/f`)).toBe(1);
    expect(count(`${'**/*/'.repeat(6)}f`)).toBe(1);
    expect(count(`${'*/'.repeat(30)}f`)).toBe(1);
    expect(performance.now() - begun).toBeLessThan(10_000);
  });
});
