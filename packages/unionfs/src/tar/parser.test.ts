// The parser and the writer against GNU tar, bsdtar and Python, on archives of theirs and ours, whole and damaged.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { entries, pax } from '../testing/archive.js';
import { makeTree, PYTHON } from '../testing/judge.js';
import type { TarEntry } from './entry.js';
import { ArchiveError } from './error.js';
import { type TarLimits, TarParser } from './parser.js';
import { readTar } from './read.js';
import { tarEnd, tarHeader, tarPadding } from './writer.js';

const has = (tool: string) => spawnSync('sh', ['-c', `command -v ${tool}`]).status === 0;
let folder = '';
const at = (name: string) => join(folder, name);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-parser-'));
  makeTree(at('tree'), 11, 250);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Pieces of any size, also inside of headers. */
function parse(bytes: Buffer, size = bytes.length || 1, limits: TarLimits = {}) {
  const found: { entry: TarEntry; content: Buffer }[] = [];
  const parser = new TarParser(
    {
      entry: (entry) => found.push({ entry, content: Buffer.alloc(Math.min(entry.size, 1 << 22)) }),
      data: (part, offset) => part.copy(found.at(-1)?.content as Buffer, offset),
      end: () => {},
    },
    limits,
  );
  for (let i = 0; i < bytes.length; i += size) parser.write(bytes.subarray(i, i + size));
  parser.finish();
  return found;
}

const LIST = String.raw`
import tarfile, sys, json
out = []
kinds = {b'0': 'file', b'\0': 'file', b'7': 'file', b'S': 'file', b'1': 'link', b'2': 'symlink', b'3': 'character', b'4': 'block', b'5': 'directory', b'6': 'fifo'}
for path in sys.argv[1:]:
    try:
        t = tarfile.open(path, 'r:', encoding='utf-8', errors='surrogateescape')
        members = t.getmembers()
        out.append([[m.name.encode('utf-8', 'surrogateescape').hex(), kinds.get(m.type, '?'), m.mode & 0o7777, m.uid, m.gid, m.size if m.isreg() else 0,
                     int(m.mtime), m.linkname.encode('utf-8', 'surrogateescape').hex() if m.issym() or m.islnk() else ''] for m in members])
    except Exception as e:
        out.append(type(e).__name__ + ': ' + str(e))
json.dump(out, sys.stdout)
`;

type Row = [
  path: string,
  type: string,
  mode: number,
  uid: number,
  gid: number,
  size: number,
  mtime: number,
  link: string,
];

/** Python decodes names of extended headers as UTF-8 first, so that only ASCII names compare. */
function python(...files: string[]): (Row[] | string)[] {
  return JSON.parse(execFileSync(PYTHON, ['-c', LIST, ...files], { encoding: 'utf8', maxBuffer: 1 << 28 })) as (
    | Row[]
    | string
  )[];
}

function rows(bytes: Buffer): Row[] {
  return parse(bytes).map(({ entry }) => [
    entry.path.toString('hex').replace(/(2f)+$/, ''),
    entry.type,
    entry.mode,
    entry.uid,
    entry.gid,
    entry.size,
    Number(entry.mtime / 1_000_000_000n),
    entry.linkpath?.toString('hex') ?? '',
  ]);
}

describe('an archive that is cut off', () => {
  const file = (length: number) => {
    const entry = {
      path: Buffer.from('f'),
      type: 'file',
      mode: 0o644,
      uid: 0,
      gid: 0,
      size: length,
      mtime: 0n,
    } as const;
    return Buffer.concat([tarHeader(entry), Buffer.alloc(length, 1), tarPadding(length)]);
  };
  it('is told, wherever that is, but for zeros at its end', () => {
    const whole = file(700);
    for (const size of [whole.length, 1]) {
      expect(parse(whole, size)).toHaveLength(1);
      // As umoci leaves what it inserts: nothing of the content is missing.
      for (const length of [1212, 1213, whole.length - 1])
        expect(parse(whole.subarray(0, length), size)).toHaveLength(1);
      for (const length of [0, 1, 511, 512, 1211]) {
        const cut = { code: 'ERR_ARCHIVE_TRUNCATED', message: expect.stringMatching(length ? /middle/ : /is empty/) };
        expect(() => parse(whole.subarray(0, length), size), String(length)).toThrow(expect.objectContaining(cut));
      }
    }
    expect(parse(tarEnd())).toEqual([]);
    expect(parse(Buffer.alloc(512))).toEqual([]);
  });
});

describe('archives of others', () => {
  const formats: [name: string, args: string[]][] = [
    ['GNU tar, gnu', ['tar', '-H', 'gnu']],
    ['GNU tar, oldgnu', ['tar', '-H', 'oldgnu']],
    ['GNU tar, posix', ['tar', '-H', 'posix']],
    ['bsdtar, gnutar', ['bsdtar', '--format', 'gnutar']],
    ['bsdtar, pax', ['bsdtar', '--format', 'pax', '--options', 'hdrcharset=BINARY']],
  ];
  for (const [name, [tool, ...args]] of formats as [string, [string, ...string[]]][]) {
    it.skipIf(!has(tool))(`of ${name} list as the files are${has(tool) ? '' : ` [needs ${tool}]`}`, () => {
      execFileSync(tool, [...args, '-C', at('tree'), '-cf', at('a.tar'), '.'], { stdio: 'ignore' });
      const bytes = readFileSync(at('a.tar'));
      const truth = JSON.parse(
        execFileSync(
          PYTHON,
          [
            '-c',
            'import os,sys,json,stat\nr=os.fsencode(sys.argv[1]);o={}\nfor d,_,_ in os.walk(r):\n for n in [b"."]+os.listdir(d):\n  p=os.path.join(d,n)\n  s=os.lstat(p)\n  o[os.path.relpath(p,r).hex()]=[stat.S_IMODE(s.st_mode),s.st_uid,s.st_gid,s.st_size if stat.S_ISREG(s.st_mode) else 0,s.st_mtime_ns//10**9]\njson.dump(o,sys.stdout)',
            at('tree'),
          ],
          { encoding: 'utf8', maxBuffer: 1 << 28 },
        ),
      ) as Record<string, number[]>;
      for (const size of [bytes.length, 7, 1000]) {
        const found = parse(bytes, size);
        expect(found).toHaveLength(Object.keys(truth).length);
        for (const { entry } of found) {
          const path = Buffer.from(
            entry.path.toString('latin1').replace(/^\.\//, '').replace(/\/$/, '') || '.',
            'latin1',
          );
          const [mode, uid, gid, length, mtime] = truth[path.toString('hex')] as number[];
          const size = entry.type === 'link' ? length : entry.size;
          expect([entry.mode, entry.uid, entry.gid, size, Number(entry.mtime / 1_000_000_000n)]).toEqual([
            mode,
            uid,
            gid,
            length,
            // A time before 1970 or after 2242 may not fit their format.
            mtime,
          ]);
        }
      }
    });
  }

  it('of Python, in its three formats', () => {
    const make = `
import tarfile, sys, io
for f, name in ((tarfile.USTAR_FORMAT, 'u'), (tarfile.GNU_FORMAT, 'g'), (tarfile.PAX_FORMAT, 'p')):
    t = tarfile.open(sys.argv[1] + name, 'w', format=f)
    for i in range(60):
        m = tarfile.TarInfo('d/' * (i % 9) + 'n' * (1 + i % 80)); m.size = i * 37 % 2000; m.mode = i * 91 % 0o7777; m.uid = i * 30000; m.mtime = i * 10**7
        t.addfile(m, io.BytesIO(b'x' * m.size))
    if name != 'u':
        m = tarfile.TarInfo('long/' * 80 + 'x'); m.uid = 2**31; m.gid = 4294967294; m.mtime = 2**34; t.addfile(m)
        m = tarfile.TarInfo('s'); m.type = tarfile.SYMTYPE; m.linkname = 'l' * 300; t.addfile(m)
    t.close()
`;
    execFileSync(PYTHON, ['-c', make, at('py-')]);
    for (const name of ['u', 'g', 'p']) {
      const [listed] = python(at(`py-${name}`));
      expect(rows(readFileSync(at(`py-${name}`)))).toEqual(listed);
    }
  });
});

const name = fc.oneof(
  fc.string({ unit: fc.constantFrom(...'abc./-_ '), minLength: 1, maxLength: 300 }),
  fc.string({ unit: 'grapheme', minLength: 1, maxLength: 120 }),
);
const arbitrary: fc.Arbitrary<{ entry: TarEntry; content: Buffer }> = fc
  .record({
    path: name.filter((text) => !text.includes('\0') && !text.endsWith('/')),
    type: fc.constantFrom('file', 'directory', 'symlink', 'link', 'character', 'block', 'fifo'),
    mode: fc.nat(0o7777),
    uid: fc.oneof(fc.nat(70_000), fc.constant(4_294_967_294)),
    gid: fc.oneof(fc.nat(70_000), fc.constant(2_097_152)),
    mtime: fc.oneof(fc.bigInt(0n, 9_000_000_000_000_000_000n), fc.bigInt(-1_000_000_000_000n, -1n), fc.constant(0n)),
    linkpath: name.filter((text) => !text.includes('\0')),
    content: fc.uint8Array({ maxLength: 1500 }),
    xattrs: fc.dictionary(
      fc.string({ unit: fc.constantFrom(...'abc.'), minLength: 1, maxLength: 20 }),
      fc.uint8Array(),
      {
        maxKeys: 3,
      },
    ),
  })
  .map(({ path, type, linkpath, content, xattrs, ...rest }) => {
    const body = Buffer.from(type === 'file' ? content : []);
    const entry = { ...rest, path: Buffer.from(path), type, size: body.length } as TarEntry;
    if (type === 'directory') entry.path = Buffer.from(`${path}/`);
    if (type === 'symlink' || type === 'link') entry.linkpath = Buffer.from(linkpath);
    if (type === 'character' || type === 'block') entry.device = { major: 7, minor: 70_000 };
    const map = new Map(Object.entries(xattrs).map(([key, value]) => [`user.${key}`, Buffer.from(value)]));
    if (map.size) entry.xattrs = map;
    return { entry, content: body };
  });
const write = (list: { entry: TarEntry; content: Buffer }[]) =>
  Buffer.concat([
    ...list.flatMap(({ entry, content }) => [tarHeader(entry), content, tarPadding(content.length)]),
    tarEnd(),
  ]);

describe('archives of ours', () => {
  it('are read back as they were written, whatever the pieces', () => {
    fc.assert(
      fc.property(fc.array(arbitrary, { maxLength: 8 }), fc.integer({ min: 1, max: 2000 }), (list, size) => {
        expect(parse(write(list), size)).toEqual(list);
      }),
      { numRuns: 300 },
    );
  });

  it('are the same entries where content is skipped', () => {
    fc.assert(
      fc.property(fc.array(arbitrary, { maxLength: 8 }), fc.integer({ min: 1, max: 2000 }), (list, size) => {
        const seen: TarEntry[] = [];
        let ends = 0;
        const handler = { entry: (entry: TarEntry) => seen.push(entry), data: () => {}, end: () => ends++ };
        const parser = new TarParser(handler);
        const bytes = write(list);
        for (let at = 0; at < bytes.length; ) {
          parser.write(bytes.subarray(at, at + size));
          at += Math.min(size, bytes.length - at);
          const { skippable } = parser;
          expect(() => parser.skip(skippable + 1)).toThrow(RangeError);
          parser.skip(skippable);
          at += skippable;
        }
        parser.finish();
        expect([seen, ends]).toEqual([list.map(({ entry }) => entry), list.length]);
      }),
      { numRuns: 50 },
    );
  });

  it('are to Python what they are to us', () => {
    // Python's times are floating-point numbers.
    const whole = arbitrary.map(({ entry, content }) => {
      return { entry: { ...entry, mtime: entry.mtime - (entry.mtime % 1_000_000_000n) }, content };
    });
    const samples = fc.sample(fc.array(whole, { minLength: 1, maxLength: 12 }), 150);
    const files = samples.map((list, i) => {
      writeFileSync(at(`ours-${i}`), write(list));
      return at(`ours-${i}`);
    });
    for (const [i, listed] of python(...files).entries()) {
      const ours = rows(readFileSync(files[i] as string));
      if (typeof listed === 'string') throw new Error(listed);
      const ascii = (row: Row) => /^([0-7][0-9a-f])*$/.test(row[0] + row[7]);
      const strip = (list: Row[]) => list.filter(ascii).map((row) => row.with(0, row[0].replace(/(2f)+$/, '')));
      expect(strip(listed)).toEqual(strip(ours));
    }
  });

  it('with the same entries are the same bytes', () => {
    fc.assert(
      fc.property(arbitrary, ({ entry }) => {
        const again = { ...entry };
        if (entry.xattrs) again.xattrs = new Map([...entry.xattrs].reverse());
        expect(tarHeader(again).equals(tarHeader(entry))).toBe(true);
      }),
    );
  });
});

describe('damaged archives', () => {
  it('end in a typed error or in what Python sees too', () => {
    const good = entries(
      ...Array.from({ length: 12 }, (_, i) => ({ path: `dir/name-${i}`, content: 'x'.repeat(i * 150), uid: i })),
    );
    const files: string[] = [];
    const ours: (Row[] | ArchiveError)[] = [];
    let seed = 12345;
    const random = (below: number) => {
      seed = (seed * 1103515245 + 12345) & 0x7fffffff;
      return seed % below;
    };
    for (let i = 0; i < 400; i++) {
      const bytes = Buffer.from(good.subarray(0, i % 5 ? good.length : random(good.length)));
      for (let n = 0; n < 1 + (i % 3); n++) if (bytes.length) bytes[random(bytes.length)] = random(256);
      writeFileSync(at(`bad-${i}`), bytes);
      files.push(at(`bad-${i}`));
      try {
        ours.push(rows(bytes));
      } catch (error) {
        if (!(error instanceof ArchiveError)) throw error;
        ours.push(error);
      }
    }
    const theirs = python(...files);
    const ascii = (list: Row[]) => list.every((row) => /^([0-7][0-9a-f])*$/.test(row[0] + row[7]));
    let compared = 0;
    for (const [i, mine] of ours.entries()) {
      const listed = theirs[i] as Row[] | string;
      // Where both take it, both see the same. Python stops in silence at a bad header that is not the first.
      if (mine instanceof ArchiveError || typeof listed === 'string' || !ascii(mine) || !ascii(listed)) continue;
      const strip = (list: Row[]) => list.map((row) => row.with(0, row[0].replace(/(2f)+$/, '')));
      expect(strip(listed), `sample ${i}`).toEqual(strip(mine));
      compared++;
    }
    expect(compared).toBeGreaterThan(20);
    expect(ours.filter((result) => result instanceof ArchiveError).length).toBeGreaterThan(100);
  });

  it('of nothing but noise end in a typed error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 3000 }), (noise) => {
        const bytes = Buffer.from(noise);
        if (bytes.subarray(0, 512).every((byte) => byte === 0)) return;
        expect(() => parse(bytes)).toThrow(ArchiveError);
      }),
    );
  });
});

describe('extended headers', () => {
  const first = (bytes: Buffer) => parse(bytes)[0]?.entry as TarEntry;

  it('win over what ustar says, and are taken back by empty records', () => {
    const body = { path: 'long name', uid: '5000000', mtime: '-1.5', size: '3' };
    const entry = first(Buffer.concat([pax(body), entries({ path: 'x', content: 'abc' })]));
    expect(entry).toMatchObject({ path: Buffer.from('long name'), uid: 5_000_000, mtime: -1_500_000_000n, size: 3 });
    expect(first(Buffer.concat([pax({ path: '' }), entries({ path: 'x' })])).path.toString()).toBe('x');
  });

  it('that are global are ignored, as Go ignores them', () => {
    const bytes = Buffer.concat([pax({ path: 'other', comment: 'abc' }, 'g'), entries({ path: 'x' })]);
    expect(first(bytes).path.toString()).toBe('x');
  });

  it('of both kinds of attributes are read as bytes', () => {
    const binary = Buffer.from([0xff, 0, 0xfe, 0x80, 0x0a]);
    const bytes = Buffer.concat([
      pax({ 'LIBARCHIVE.xattr.user.a%3Db': binary.toString('base64'), 'SCHILY.xattr.user.c': 'd' }),
      entries({ path: 'x' }),
    ]);
    expect(first(bytes).xattrs).toEqual(
      new Map([
        ['user.a=b', binary],
        ['user.c', Buffer.from('d')],
      ]),
    );
  });

  it('with a wrong length, no key, or more than allowed are refused', () => {
    for (const body of ['99 path=x\n', '5 =x\n', '9 path=xx', 'path=x\n', '0 a=b\n']) {
      expect(() => parse(Buffer.concat([pax(body), entries({ path: 'x' })])), body).toThrow(ArchiveError);
    }
    const large = Buffer.concat([pax({ path: 'x'.repeat(5000) }), entries({ path: 'x' })]);
    expect(() => parse(large, 512, { header: 4096 })).toThrow(/extended header/);
  });
});

describe('readTar', () => {
  it('skips what is not read, and gives the zeros of holes', async () => {
    const map = '2\n3\n1\n9\n1\n'.padEnd(512, '\0');
    const sparse = {
      'GNU.sparse.major': '1',
      'GNU.sparse.minor': '0',
      'GNU.sparse.realsize': '12',
      'GNU.sparse.name': 's',
    };
    const bytes = Buffer.concat([
      entries({ path: 'skipped', content: 'x'.repeat(5000) }),
      pax(sparse),
      entries({ path: 'x', content: `${map}ab` }),
      entries({ path: 'last' }),
      tarEnd(),
    ]);
    const seen: string[] = [];
    for await (const entry of readTar([bytes.subarray(0, 700), bytes.subarray(700)])) {
      if (entry.path.toString() !== 's') seen.push(entry.path.toString());
      else {
        const parts: Buffer[] = [];
        for await (const part of entry.content) parts.push(Buffer.from(part));
        seen.push(Buffer.concat(parts).toString('latin1'));
      }
    }
    expect(seen).toEqual(['skipped', '\0\0\0a\0\0\0\0\0b\0\0', 'last']);
  });
});
