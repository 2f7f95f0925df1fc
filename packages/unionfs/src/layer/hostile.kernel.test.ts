// Archives that want out. Whatever they hold: files outside stay as they were, to the nanosecond, and the error is typed.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { KernelError } from '@iso/sys';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ArchiveError } from '../tar/error.js';
import { archive, forged, pax, type Sketch } from '../testing/archive.js';
import { unpackHere } from '../testing/judge.js';
import type { ExtractFormat } from './extract.js';
import type { UnpackSettings } from './unpacker.js';

const root = process.getuid?.() === 0;
const needs = root ? '' : ' [needs root]';
let folder = '';
let before: unknown;
const at = (name: string) => join(folder, name);
/** As find(1) sees it; a change of anything changes an inode's ctime. */
const around = () => [
  execFileSync('find', [at('outside'), at('root-beside'), '-printf', '%p %y %i %m %U:%G %n %s %T@ %C@ %l\\n'], {
    encoding: 'utf8',
  }),
  readdirSync(folder),
];

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-hostile-'));
  mkdirSync(at('outside/sub'), { recursive: true });
  writeFileSync(at('outside/secret'), 'secret');
  writeFileSync(at('outside/sub/deep'), 'deep');
  writeFileSync(at('outside/.wh.secret'), '');
  // A name that begins as the root's.
  mkdirSync(at('root-beside'));
  writeFileSync(at('root-beside/secret'), 'secret');
  mkdirSync(at('root'));
  before = around();
});
beforeEach(() => mkdirSync(at('root'), { recursive: true }));
afterEach(() => {
  execFileSync('chmod', ['-R', 'u+rwX', at('root')]);
  rmSync(at('root'), { recursive: true, force: true });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function attack(parts: (Sketch | Buffer)[], options: UnpackSettings = {}): Promise<unknown> {
  let error: unknown;
  try {
    await unpackHere(archive(...parts), at('root'), options);
  } catch (caught) {
    error = caught;
  }
  expect(around()).toEqual(before);
  if (error) expect(error instanceof ArchiveError || KernelError.is(error), String(error)).toBe(true);
  return error;
}

const file = (path: string | Buffer, content = 'evil'): Sketch => ({ path, content });
const symlink = (path: string, linkpath: string): Sketch => ({ path, type: 'symlink', linkpath });
const link = (path: string, linkpath: string): Sketch => ({ path, type: 'link', linkpath });
const directory = (path: string, mode = 0o777): Sketch => ({ path, type: 'directory', mode });
const outside = () => at('outside');

/** What tries to get out, after the advisories about other programs. */
const corpus: [name: string, parts: () => (Sketch | Buffer)[]][] = [
  ['a name with ..', () => [file('../outside/new')]],
  ['.. in the middle', () => [directory('a'), file('a/../../outside/new')]],
  ['an absolute name', () => [file(`${outside()}/new`)]],
  ['a name of slashes and dots', () => [file('/.//./../outside/new')]],
  ['a file through a relative link', () => [symlink('l', '../outside'), file('l/new')]],
  ['a file through an absolute link', () => [symlink('l', outside()), file('l/new')]],
  ['a file over a link to a file', () => [symlink('l', `${outside()}/secret`), file('l')]],
  ['a file over a dangling link', () => [symlink('l', `${outside()}/new`), file('l')]],
  ['a link through a link', () => [symlink('a', '..'), symlink('b', 'a/outside'), file('b/new')]],
  [
    'a link of links of links',
    () => [symlink('x', '.'), symlink('y', 'x/..'), symlink('z', 'y/..'), file('z/outside/new')],
  ],
  ['a directory over a link', () => [symlink('l', outside()), directory('l'), file('l/new')]],
  ['a directory with a slash over a link', () => [symlink('l', outside()), directory('l/', 0o000)]],
  ['a directory that becomes a link', () => [directory('l', 0o000), symlink('l', outside())]],
  ['a directory below what becomes a link', () => [directory('l'), directory('l/sub', 0o000), symlink('l', outside())]],
  ['a hard link to ..', () => [link('h', '../outside/secret'), file('h')]],
  ['a hard link to an absolute name', () => [link('h', `${outside()}/secret`), file('h')]],
  ['a hard link through a link', () => [symlink('l', '../outside'), link('h', 'l/secret')]],
  ['a hard link through an absolute link', () => [symlink('l', outside()), link('h', 'l/secret')]],
  [
    'a hard link to a link, written to',
    () => [symlink('l', `${outside()}/secret`), link('h', 'l'), { ...file('h'), mode: 0o777 }],
  ],
  [
    'a hard link whose mode would follow',
    () => [symlink('l', `${outside()}/secret`), { ...link('h', 'l'), mode: 0o7777 }],
  ],
  ['the root as a link', () => [symlink('.', outside()), file('new')]],
  ['the root as a link, with slashes', () => [symlink('/.', outside()), file('new')]],
  ['the root as a file', () => [file('./')].map((part) => ({ ...part, path: '/' }))],
  ['a magic link', () => [symlink('l', '/proc/self/root'), file(`l${folder}/outside/new`)]],
  ['a magic link to a descriptor', () => [symlink('l', '/proc/self/fd/3/../outside'), file('l/new')]],
  ['attributes through a link', () => [{ ...symlink('l', `${outside()}/secret`), mode: 0o7777, uid: 1000 }]],
  ['links that go round', () => [symlink('a', 'b'), symlink('b', 'a'), file('a/new')]],
  ['a whiteout of ..', () => [file('.wh...')]],
  ['a whiteout of .', () => [file('.wh..')]],
  ['a whiteout of nothing', () => [file('.wh.')]],
  ['a whiteout through a link', () => [symlink('l', outside()), file('l/.wh.secret')]],
  ['a whiteout through a relative link', () => [symlink('l', '../outside'), file('l/.wh.secret')]],
  ['an opaque mark through a link', () => [symlink('l', '../outside'), file('l/.wh..wh..opq')]],
  ['an opaque mark through the root', () => [symlink('l', '/'), file('l/../.wh..wh..opq')]],
  ['a fifo over a link', () => [symlink('l', `${outside()}/secret`), { path: 'l', type: 'fifo' }]],
  ['a whiteout as a device', () => [{ path: 'secret', type: 'character', device: { major: 0, minor: 0 } }]],
  [
    'attributes of overlay itself',
    () => [{ ...directory('d'), xattrs: new Map([['trusted.overlay.redirect', Buffer.from('/../../outside')]]) }],
  ],
  // What a program remembers of a directory may be true no more.
  [
    'a directory that was written to becomes a link',
    () => [directory('a'), file('a/x'), symlink('a', outside()), file('a/new')],
  ],
  [
    'a directory below one that becomes a link',
    () => [directory('a'), directory('a/sub'), file('a/sub/x'), symlink('a', '../outside'), file('a/sub/deep')],
  ],
  [
    'a directory that is hidden and becomes a link',
    () => [directory('a'), file('a/x'), file('.wh.a'), symlink('a', outside()), file('a/new')],
  ],
  [
    'a directory under two spellings of one name',
    () => [directory('\u00e9'), file('\u00e9/x'), symlink('e\u0301', outside()), file('e\u0301/new')],
  ],
  ['a hard link over a directory', () => [directory('a'), file('a/x'), file('t'), link('a', 't'), file('a/new')]],
  [
    'a device over a link',
    () => [symlink('l', `${outside()}/secret`), { path: 'l', type: 'character', device: { major: 1, minor: 3 } }],
  ],
  ['the names of another system', () => [file('..\\outside\\new'), file('C:../outside/new'), file('C:\\new')]],
  ['a name of many slashes', () => [file(`//////${outside()}/new`), file(`/${outside()}//../outside/new`)]],
  ['a name that begins as the root', () => [symlink('l', '../root-beside'), file('l/new'), file('../root-beside/new')]],
  ['a hard link to a name that begins as the root', () => [link('h', '../root-beside/secret'), file('h')]],
  [
    'a hard link through a chain of links',
    () => [symlink('a', 'b/c'), directory('b'), symlink('b/c', '../..'), link('h', 'a/outside/secret'), file('h')],
  ],
  [
    'links with the names of another system',
    () => [
      link('h', 'C:../outside/secret'),
      symlink('l', 'C:..\\outside'),
      file('l/new'),
      link('k', '..\\outside\\secret'),
    ],
  ],
  [
    'two names that another system takes for one',
    () => [directory('ss'), file('ss/x'), symlink('\u00df', outside()), file('ss/new')],
  ],
  ['NUL in an extended name', () => [pax({ path: 'ok\0/../../evil' }), file('x')]],
];

/** What the advisories about other programs are about, and which of the above tries the same. */
const advisories: Record<string, string[]> = {
  'umoci CVE-2021-29136': ['the root as a link', 'the root as a link, with slashes'],
  'containerd CVE-2021-32760': ['a hard link whose mode would follow'],
  'tar-rs CVE-2026-33056': ['a directory with a slash over a link'],
  'GNU tar CVE-2025-45582': ['a file through a relative link'],
  'node-tar CVE-2018-20834': ['a hard link to an absolute name', 'a hard link to a link, written to'],
  'node-tar CVE-2021-32803': ['a directory that was written to becomes a link'],
  'node-tar CVE-2021-32804': ['an absolute name', 'a name of many slashes'],
  'node-tar CVE-2021-37701': ['a directory below one that becomes a link', 'the names of another system'],
  'node-tar CVE-2021-37712': ['a directory under two spellings of one name'],
  'node-tar CVE-2021-37713': ['the names of another system'],
  'node-tar CVE-2026-23745': ['a hard link to an absolute name', 'a file through an absolute link'],
  'node-tar CVE-2026-23950': ['two names that another system takes for one'],
  'node-tar CVE-2026-29786': ['links with the names of another system'],
  'node-tar CVE-2026-31802': ['links with the names of another system'],
  'tar-fs CVE-2024-12905': ['a hard link through a link', 'a file through a relative link'],
  'tar-fs CVE-2025-48387': ['a hard link through a chain of links', 'a hard link to ..'],
  'tar-fs CVE-2025-59343': ['a name that begins as the root', 'a hard link to a name that begins as the root'],
};

describe('an archive that wants out', () => {
  it('is one of those that advisories are about', () => {
    const names = new Set(corpus.map(([name]) => name));
    for (const [advisory, tries] of Object.entries(advisories)) {
      expect([advisory, tries.filter((name) => !names.has(name))]).toEqual([advisory, []]);
    }
  });

  for (const format of ['tree', 'overlay', 'plain', 'aufs'] as const satisfies ExtractFormat[]) {
    for (const [name, parts] of corpus) {
      it.skipIf(!root)(`${name}, as ${format}${needs}`, async () => {
        await attack(parts(), { format });
        // The second archive finds what the first one left.
        await attack([file('l/new'), file('b/new'), file('z/outside/new'), directory('l'), file('l/secret')], {
          format,
        });
      });
    }
  }
});

describe('an archive that speaks for the union', () => {
  it.skipIf(!root)(`sets none of its attributes${needs}`, async () => {
    const names = ['trusted.overlay.opaque', 'user.overlay.redirect', 'user.fuseoverlayfs.opaque', 'security.selinux'];
    const xattrs = new Map([...names, 'user.own'].map((name) => [name, Buffer.from('y')]));
    for (const format of ['overlay', 'userxattr', 'aufs', 'plain', 'tree'] as const) {
      mkdirSync(at(`root/${format}`));
      await unpackHere(archive({ ...directory('d'), xattrs }), at(`root/${format}`), { format });
      const set = execFileSync('getfattr', ['-d', '-m', '-', '--absolute-names', at(`root/${format}/d`)], {
        encoding: 'utf8',
      });
      // A nested union's marks are content: in its own layer's format they are kept under another name.
      const own = { overlay: 'trusted.overlay.overlay.opaque', userxattr: 'user.overlay.overlay.redirect' }[
        format as string
      ];
      const expected = ['user.own', ...(own ? [own] : [])].sort();
      expect([...set.matchAll(/^([a-z.]+)=/gm)].map(([, name]) => name).sort()).toEqual(expected);
    }
  });
});

describe('an archive that wants too much', () => {
  const code = (error: unknown) => (error as { code?: string } | undefined)?.code;

  it('of entries', async () => {
    const many = Array.from({ length: 20 }, (_, i) => file(`f${i}`));
    expect(code(await attack(many, { limits: { entries: 10 } }))).toBe('ERR_ARCHIVE_LIMIT');
    expect(readdirSync(at('root'))).toHaveLength(10);
  });

  it('of bytes, in one sparse file', async () => {
    const sparse = [pax({ 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': '9000000000000' })];
    expect(code(await attack([...sparse, file('s', `1\n0\n1\n`.padEnd(512, '\0').concat('x'))]))).toBe(
      'ERR_ARCHIVE_LIMIT',
    );
  });

  it('of zeros in a small file', async () => {
    const bomb = gzipSync(Buffer.alloc(64 << 20));
    async function* source() {
      yield bomb;
    }
    const before = process.memoryUsage.rss();
    const failed = unpackHere(source(), at('root'), { limits: { archive: 1 << 20 } });
    // A block of zeros ends an archive, so what follows is padding: it counts all the same.
    await expect(failed).rejects.toMatchObject({ code: 'ERR_ARCHIVE_LIMIT' });
    expect(process.memoryUsage.rss() - before).toBeLessThan(200 << 20);
  });

  it('of depth', async () => {
    const deep = file('d/'.repeat(1500).concat('f'));
    expect(code(await attack([deep]))).toBe('ERR_ARCHIVE_LIMIT');
    expect(code(await attack([file('d/'.repeat(2500).concat('f'))], { maxDepth: 5000 }))).toBe('ENAMETOOLONG');
  });

  it('of letters in a name, which the error tells', async () => {
    const long = 'n'.repeat(300);
    for (const path of [`d/${long}/f`, `d/${long}`, `d/${long}/`]) {
      const error = await attack([file(path, '')].map((part) => (path.endsWith('/') ? directory(path) : part)));
      expect(error).toMatchObject({ code: 'ENAMETOOLONG', message: expect.stringContaining(`d/${long}`) });
    }
    const deep = await attack([file(`${'d/'.repeat(2500)}f`)], { maxDepth: 5000 });
    expect(deep).toMatchObject({ code: 'ENAMETOOLONG', message: expect.stringContaining('("d/d/d/') });
  });

  it('of an extended header', async () => {
    expect(code(await attack([pax({ path: 'x'.repeat(2 << 20) }), file('x')]))).toBe('ERR_ARCHIVE_LIMIT');
  });

  it.skipIf(!root)(`of time: many opaque marks are no more work than few${needs}`, async () => {
    const marks = Array.from({ length: 20_000 }, (_, i) =>
      file(i % 2 ? 'd/.wh..wh..opq' : `d/e${i % 50}/.wh..wh..opq`, ''),
    );
    const start = performance.now();
    expect(await attack([directory('d'), ...marks], { format: 'plain' })).toBeUndefined();
    // Two seconds are plenty for what takes a tenth; a walk for each mark takes minutes.
    expect(performance.now() - start).toBeLessThan(20_000);
  });
});

describe('an archive on which programs disagree', () => {
  const ambiguous: [name: string, parts: () => (Sketch | Buffer)[]][] = [
    [
      'a directory with a size',
      () => [forged(directory('d'), (block) => block.write('00000001000', 124)), file('d/x')],
    ],
    ['a link with a size', () => [forged(symlink('l', 'x'), (block) => block.write('00000001000', 124)), file('x')]],
    ['a hard link with a size', () => [file('f'), forged(link('l', 'f'), (block) => block.write('00000001000', 124))]],
    [
      'a hard link with a size in an extended header',
      () => [file('f'), pax({ size: '512' }), link('l', 'f'), file('x')],
    ],
    [
      'a prefix in a header of no format',
      () => [forged(file('x'), (block) => block.fill(0, 257, 265).write('p', 345))],
    ],
    [
      'a prefix where GNU has something else',
      () => [forged(file('x'), (b) => b.write('ustar  \0', 257) && b.write('p', 385))],
    ],
    [
      'a directory by the name in its header alone',
      () => [pax({ path: 'x' }), forged(file('d', ''), (block) => block.write('/', 1) && block.fill(0, 156, 157))],
    ],
    ['a file with a slash', () => [file('d/', '')]],
    ['two extended headers', () => [pax({ path: 'a' }), pax({ path: 'b' }), file('x')]],
    [
      'two kinds of long names',
      () => [pax({ path: 'a' }), forged(file('././@LongLink', 'b\0'), (block) => block.write('L', 156)), file('x')],
    ],
    [
      'two values of an attribute',
      () => [pax({ 'SCHILY.xattr.user.a': '1', 'LIBARCHIVE.xattr.user.a': 'Mg==' }), file('x')],
    ],
  ];
  for (const [name, parts] of ambiguous) {
    it(`is refused: ${name}`, async () => {
      expect(await attack(parts())).toMatchObject({ code: 'ERR_ARCHIVE_AMBIGUOUS' });
    });
  }

  it('takes the size of the entry and not that of a header before it', async () => {
    // node-tar GHSA-vmf3-w455-68vh: a size record that was applied to the long name's header hid the entries behind.
    const long = forged(file('././@LongLink', 'long\0'), (block) => block.write('L', 156));
    expect(await attack([pax({ size: '4' }), long, file('x', 'data'), file('y', 'more')])).toBeUndefined();
    expect(readdirSync(at('root')).sort()).toEqual(['long', 'y']);
    expect(readFileSync(join(at('root'), 'long'), 'utf8')).toBe('data');
  });

  it.skipIf(!root)(`refuses a file in a whiteout, which would be a directory of that name${needs}`, async () => {
    for (const format of ['overlay', 'plain', 'aufs'] as const) {
      for (const path of ['.wh.foo/bar', 'd/.wh.foo/e/bar', '.wh.foo/.wh.bar']) {
        expect(await attack([file(path)], { format })).toMatchObject({ code: 'ERR_ARCHIVE_WHITEOUT' });
      }
      expect(await attack([file('x.wh.foo/bar')], { format })).toBeUndefined();
    }
    expect(await attack([file('.wh.foo/bar')], { format: 'tree' })).toBeUndefined();
  });

  it('refuses a wrong sum, a cut header, an entry after zeros and unknown types', async () => {
    const broken = forged(file('x'), () => {});
    broken[0] = 0x79;
    expect(await attack([broken])).toMatchObject({ code: 'ERR_ARCHIVE_HEADER' });
    expect(await attack([Buffer.alloc(512), file('x')])).toMatchObject({ code: 'ERR_ARCHIVE_HEADER' });
    expect(await attack([forged(file('x', ''), (block) => block.write('Z', 156))])).toMatchObject({
      code: 'ERR_ARCHIVE_TYPE',
    });
    async function* cut() {
      yield Buffer.from('x'.repeat(100));
    }
    await expect(unpackHere(cut(), at('root'))).rejects.toMatchObject({ code: 'ERR_ARCHIVE_TRUNCATED' });
    expect(existsSync(at('root/x'))).toBe(false);
  });
});
