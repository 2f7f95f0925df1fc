// The driver of aufs: its mounts where a kernel has it, its layers on any file system.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UnsupportedError } from '@iso/sys';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { changes, writeLayer } from '../diff/changes.js';
import { conform, passed } from '../testing/conformance.js';
import { unpackHere } from '../testing/judge.js';
import { aufs } from './aufs.js';

const root = process.getuid?.() === 0;
const needs = root ? '' : ' [needs root]';
const there = /\baufs$/m.test(readFileSync('/proc/filesystems', 'utf8'));
let folder = '';
const at = (name: string) => join(folder, name);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-aufs-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('aufs', () => {
  it.skipIf(!root || !there)('passes [needs root, a kernel with aufs]', () => {
    expect(conform('aufs', at('layers'))).toEqual(passed());
  });

  it.skipIf(!root || there)('says what the kernel lacks [needs root, a kernel without aufs]', () => {
    using driver = aufs(folder);
    driver.create('a', []);
    driver.create('b', ['a']);
    expect(() => driver.open('b', ['a'])).toThrow(UnsupportedError);
    expect(() => driver.open('b', ['a'])).toThrow(/aufs is not supported here: .*patches of aufs/);
  });

  it.skipIf(!root)(`reads what aufs leaves in a layer, without its book-keeping${needs}`, async () => {
    using driver = aufs(folder);
    driver.create('base', []);
    driver.create('top', ['base']);
    const base = driver.directory('base');
    for (const path of ['d/e', 'opaque/old', 'kept']) mkdirSync(join(base, path), { recursive: true });
    for (const path of ['d/gone', 'd/e/f', 'opaque/old/x', 'opaque/again', 'kept/k'])
      writeFileSync(join(base, path), path);
    // As aufs writes it: whiteouts are links of one empty file, pseudo-links and orphans lie in directories of its own.
    const top = driver.directory('top');
    for (const path of ['.wh..wh.orph', '.wh..wh.plnk', 'd', 'opaque']) mkdirSync(join(top, path), { mode: 0o700 });
    for (const path of ['.wh..wh.aufs', '.wh..wh.plnk/12.34', '.wh..wh.orph/5', 'd/.wh.gone', 'opaque/.wh..wh..opq'])
      writeFileSync(join(top, path), '', { mode: 0o444 });
    writeFileSync(join(top, 'opaque/again'), 'new');
    writeFileSync(join(top, '.wh.nothing'), '');
    const found: string[] = [];
    for await (const { kind, path } of changes(driver.diff('top', ['base']))) found.push(`${kind} /${path}`);
    expect(found.filter((line) => !/^modify \/(d|opaque)?$/.test(line)).sort()).toEqual([
      'delete /d/gone',
      'delete /opaque/old',
      'modify /opaque/again',
    ]);
    async function* layer() {
      yield* writeLayer(driver.diff('top', ['base']));
    }
    for (const format of ['aufs', 'plain'] as const) {
      const to = at(format);
      if (format === 'plain') await import('node:fs/promises').then(({ cp }) => cp(base, to, { recursive: true }));
      else mkdirSync(to);
      await unpackHere(layer(), to, { format });
    }
    expect(readdirSync(at('aufs/d'))).toEqual(['.wh.gone']);
    expect(existsSync(at('aufs/.wh..wh.aufs'))).toBe(false);
    expect(readdirSync(at('plain/d'))).toEqual(['e']);
    expect(readdirSync(at('plain/opaque'))).toEqual(['again']);
    expect(readFileSync(at('plain/opaque/again'), 'utf8')).toBe('new');
    expect(readFileSync(at('plain/kept/k'), 'utf8')).toBe('kept/k');
  });
});
