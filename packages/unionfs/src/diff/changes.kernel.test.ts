// The kernel's overlay is changed at random by Python; what is found in its writable layer must make the same tree elsewhere.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Fd } from '@iso/sys';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openOverlay } from '../overlay/mount.js';
import { changeTree, judge, makeTree, unpackHere } from '../testing/judge.js';
import { type Change, changes, type DiffSource, writeLayer } from './changes.js';

const root = process.getuid?.() === 0;
const needs = root ? '' : ' [needs root]';
let folder = '';
const at = (name: string) => join(folder, name);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-diff-'));
  for (const name of ['lower', 'middle', 'upper', 'work', 'merged', 'plain', 'again']) mkdirSync(at(name));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function list(source: DiffSource): Promise<Change[]> {
  const found: Change[] = [];
  for await (const change of changes(source)) found.push(change);
  return found;
}
async function* stream(source: DiffSource) {
  yield* writeLayer(source);
}
const overlay = (lowers: string, options = '') => [
  '-t',
  'overlay',
  '-o',
  `lowerdir=${lowers},upperdir=${at('upper')},workdir=${at('work')},${options || 'redirect_dir=off,metacopy=off'}`,
  'overlay',
  at('merged'),
];
const short = (found: Change[]) =>
  found.map(({ kind, path, fields }) => `${kind} ${path} ${fields.join()}`.trim()).sort();

describe.skipIf(!root)(`the changes of a writable layer${needs}`, () => {
  for (const seed of [1, 2, 3, 4, 5, 6]) {
    it(`make the same tree on a copy, and in another overlay, seed ${seed}`, async () => {
      makeTree(at('lower'), seed, 150);
      const merged = judge(at('merged'), [], overlay(at('lower')), changeTree(at('merged'), seed, 60));
      const source: DiffSource = { upper: at('upper'), lowers: [at('lower')] };

      execFileSync('cp', ['-a', `${at('lower')}/.`, at('plain')]);
      await unpackHere(stream(source), at('plain'), { format: 'plain' });
      expect(judge(at('plain'))).toEqual(merged);

      await unpackHere(stream(source), at('again'), { format: 'overlay' });
      const lowers = `${at('again')}:${at('lower')}`;
      expect(judge(at('merged'), [], ['-t', 'overlay', '-o', `lowerdir=${lowers}`, 'overlay', at('merged')])).toEqual(
        merged,
      );
    });

    it(`are those of a walk through both trees, seed ${seed}`, async () => {
      makeTree(at('lower'), seed, 100);
      execFileSync('cp', ['-a', `${at('lower')}/.`, at('middle')]);
      execFileSync('cp', ['-a', `${at('lower')}/.`, at('plain')]);
      judge(at('merged'), [], overlay(at('middle')), changeTree(at('merged'), seed, 40));
      await unpackHere(stream({ upper: at('upper'), lowers: [at('middle')] }), at('plain'), { format: 'plain' });
      const walked = await list({ before: at('middle'), after: at('plain'), content: 'read' });
      const found = await list({ upper: at('upper'), lowers: [at('middle')] });
      // A new name of an old file is no change of that in a walk through both.
      expect(short(found.filter(({ fields }) => fields.join() !== 'link'))).toEqual(short(walked));
      expect(found.length).toBeGreaterThan(10);
    });
  }

  it('through several layers, with whiteouts and opaque directories in the middle', async () => {
    makeTree(at('lower'), 21, 120);
    judge(at('merged'), [], overlay(at('lower')), changeTree(at('merged'), 21, 60));
    execFileSync('sh', ['-c', 'rmdir middle && mv upper middle && mkdir upper && rm -rf work && mkdir work'], {
      cwd: folder,
    });
    const merged = judge(at('merged'), [], overlay(`${at('middle')}:${at('lower')}`), changeTree(at('merged'), 22, 60));
    const source: DiffSource = { upper: at('upper'), lowers: [at('middle'), at('lower')] };
    await unpackHere(stream(source), at('again'), { format: 'overlay' });
    const lowers = `${at('again')}:${at('middle')}:${at('lower')}`;
    expect(judge(at('merged'), [], ['-t', 'overlay', '-o', `lowerdir=${lowers}`, 'overlay', at('merged')])).toEqual(
      merged,
    );
  });

  it('name what changed, and nothing else', async () => {
    const shell = (script: string) => execFileSync('sh', ['-ec', script], { cwd: folder });
    shell(
      `mkdir lower/d lower/gone lower/full; for f in data mode owner xattr same mtime full/a full/b gone/x; do echo x >lower/$f; done; ln -s a lower/link`,
    );
    const change = `cd "$1"; echo y >data; touch -r xattr data; chmod 700 mode; chown 5:6 owner; setfattr -n user.a -v b xattr
      setfattr -n user.a -v b d; exec 3<>same; exec 3>&-; touch -d @5 mtime; ln -sfn b link; rm -r gone full; mkdir full; echo x >full/b; echo x >full/c`;
    judge(at('merged'), [], overlay(at('lower')), ['sh', '-ec', change, 'sh', at('merged')]);
    const found = await list({ upper: at('upper'), lowers: [at('lower')] });
    const named = found.map(({ kind, path, fields }) => {
      return [kind, path, fields.filter((field) => field !== 'mtime').join()].join(' ').trim();
    });
    expect(named.sort()).toEqual([
      'add full/c',
      'delete full/a',
      'delete gone',
      'modify',
      'modify d xattr',
      'modify data data',
      'modify full',
      'modify full/b',
      'modify link link',
      'modify mode mode',
      'modify mtime',
      'modify owner owner',
      'modify xattr xattr',
    ]);
    expect(found.find(({ path }) => path.toString() === 'owner')).toMatchObject({
      before: { uid: 0, gid: 0 },
      after: { uid: 5, gid: 6 },
    });
  });

  it('of layers with metacopy and redirect_dir are seen through the union', async () => {
    makeTree(at('lower'), 31, 120);
    execFileSync('sh', ['-ec', 'mkdir -p lower/dir/sub; echo data >lower/dir/sub/f; echo big >lower/file'], {
      cwd: folder,
    });
    const change = 'cd "$1"; chmod 600 file; mv dir moved; echo new >moved/sub/g';
    const options = 'redirect_dir=on,metacopy=on';
    const merged = judge(at('merged'), [], overlay(at('lower'), options), ['sh', '-ec', change, 'sh', at('merged')]);
    const source = { upper: at('upper'), lowers: [at('lower')] };
    await expect(list(source)).rejects.toThrow(/merged/);
    using union: Fd = openOverlay({
      ...{ lower: [at('lower')], upper: at('upper'), work: at('work') },
      redirectDir: 'on',
      metacopy: true,
    });
    execFileSync('cp', ['-a', `${at('lower')}/.`, at('plain')]);
    await unpackHere(stream({ ...source, merged: union }), at('plain'), { format: 'plain' });
    expect(judge(at('plain'))).toEqual(merged);
  });

  it('are the same bytes each time, and refuse names that mean something', () => {
    makeTree(at('lower'), 41, 60);
    judge(at('merged'), [], overlay(at('lower')), changeTree(at('merged'), 41, 40));
    const bytes = () =>
      Buffer.concat([...writeLayer({ upper: at('upper'), lowers: [at('lower')] }, { epoch: 1_600_000_000 })]);
    expect(bytes().equals(bytes())).toBe(true);
    writeFileSync(at('upper/.wh.x'), '');
    expect(bytes).toThrow(/whiteout/);
  });

  it('gives up when it is told to', async () => {
    makeTree(at('lower'), 51, 60);
    const walk = changes({ after: at('lower') }, { signal: AbortSignal.abort(new Error('enough')) });
    await expect(walk.next()).rejects.toThrow('enough');
  });
});
