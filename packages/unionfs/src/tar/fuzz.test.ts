// Archives of odd headers, right and wrong, as GNU tar, bsdtar and Python list them. What this parser takes, all who take it too must see
// as the same entries: a difference is what one program checks and another one unpacks. ISO_LONG=1 tries twenty times as many.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { forged, pax, type Sketch } from '../testing/archive.js';
import { PYTHON } from '../testing/judge.js';
import type { TarEntry } from './entry.js';
import { ArchiveError } from './error.js';
import { TarParser } from './parser.js';

const has = (tool: string) => spawnSync('sh', ['-c', `command -v ${tool}`]).status === 0;
const COUNT = process.env.ISO_LONG ? 5000 : 250;
let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-fuzz-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }), 120_000);

/** The same numbers each time. */
function randomly(seed: number) {
  let state = seed;
  const below = (limit: number) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >> 8) % limit;
  };
  const one = <T>(of: readonly T[]): T => of[below(of.length)] as T;
  return { below, one, sometimes: (rarely: number) => below(rarely) === 0 };
}
type Random = ReturnType<typeof randomly>;

const NAMES = [
  'a',
  'b/c',
  './d',
  'dir',
  'e/f/g',
  'n'.repeat(99),
  'n'.repeat(100),
  `${'p'.repeat(60)}/${'q'.repeat(90)}`,
  'r'.repeat(300),
];
const TYPES = ['0', '0', '0', '5', '2', '1', '6', '3', '7', '\0'] as const;

/** An entry with its extended headers, some of it as no program writes it. */
function piece({ below, one, sometimes }: Random, serial: number): Buffer[] {
  const path = `${one(NAMES)}${serial}${sometimes(12) ? '/' : ''}`;
  const content = 'x'.repeat(one([0, 1, 511, 512, 513, 2000]));
  const type = one(TYPES);
  const sketch: Sketch = {
    path: path.slice(0, 90),
    content: type === '0' || type === '7' || type === '\0' ? content : '',
  };
  const field = (block: Buffer, text: string, at: number, length: number) => {
    block.fill(0, at, at + length);
    block.write(text, at, 'latin1');
  };
  const changes: ((block: Buffer) => void)[] = [(block) => block.write(type, 156, 'latin1')];
  if (type === '1' || type === '2')
    changes.push((block) => field(block, one(['a', 'b/c', '../x', '/abs', 't'.repeat(100)]), 157, 100));
  if (sometimes(4)) changes.push((block) => field(block, one(['00001750', '  1750 ', '1750', '01750\0 ', '']), 108, 8));
  if (sometimes(6))
    changes.push(
      (block) => block.writeUIntBE(0x80000000, 108, 4),
      (block) => block.writeUIntBE(below(70000), 112, 4),
    );
  if (sometimes(6))
    changes.push((block) => field(block, one(['13000000000', ' 1300000000', '13000000000\0', '']), 136, 12));
  // A magic of ustar, of GNU, of V7.
  if (sometimes(3)) changes.push((block) => field(block, one(['ustar\x0000', 'ustar  ', '', 'ustar']), 257, 8));
  if (sometimes(5)) changes.push((block) => field(block, one(['pre', 'pre/fix', 'x'.repeat(155)]), 345, 155));
  if (sometimes(10))
    changes.push((block) => field(block, one(['00000000001', '00000001000', '77777777777', '-1']), 124, 12));
  if (sometimes(10)) changes.push((block) => block.writeUInt8(one([0, 48 + below(44), 97 + below(26)]), below(512)));
  const before: Buffer[] = [];
  if (sometimes(4)) {
    const keys = {
      path: one(NAMES) + serial,
      linkpath: one(NAMES),
      size: String(content.length),
      uid: '70000',
      mtime: '1234567890.5',
    };
    const chosen = Object.entries(keys).filter(() => sometimes(2));
    if (sometimes(15)) chosen.push(['size', one(['0', '5', '1000'])]);
    before.push(pax(Object.fromEntries(chosen)));
  }
  if (sometimes(6))
    before.push(forged({ path: '././@LongLink', content: `${one(NAMES)}${serial}-long\0` }, (b) => b.write('L', 156)));
  if (sometimes(8))
    before.push(forged({ path: '././@LongLink', content: `${one(NAMES)}-target\0` }, (b) => b.write('K', 156)));
  if (sometimes(12)) before.push(pax({ comment: 'of all' }, 'g'));
  if (sometimes(25)) before.push(Buffer.alloc(512));
  return [
    ...before,
    forged(sketch, (block) => {
      for (const change of changes) change(block);
    }),
  ];
}

function odd(seed: number): Buffer {
  const random = randomly(seed);
  const pieces = Array.from({ length: 1 + random.below(4) }, (_, i) => piece(random, i)).flat();
  const end = random.one([1024, 1024, 1024, 512, 0, 10240]);
  return Buffer.concat([...pieces, Buffer.alloc(end)]);
}

/** What every program tells of an entry. */
interface Row {
  path: string;
  type: string;
  owner: string;
  size: number;
  link: string;
}
type Listed = Row[] | undefined;

/** Trailing slashes, and whether a directory was given by its type or by its name, are told in different ways. */
const row = (path: string, type: string, owner: string, size: number, link: string): Row => ({
  path: path.replace(/\/+$/, ''),
  type,
  owner,
  size: type === '-' ? size : 0,
  link: type === 'l' || type === 'h' ? link : '',
});

const LETTERS: Record<TarEntry['type'], string> = {
  file: '-',
  link: 'h',
  symlink: 'l',
  character: 'c',
  block: 'b',
  directory: 'd',
  fifo: 'p',
};

function ours(bytes: Buffer): Listed | ArchiveError {
  const rows: Row[] = [];
  const parser = new TarParser({
    entry: ({ path, type, uid, gid, size, linkpath }) =>
      rows.push(row(String(path), LETTERS[type], `${uid}/${gid}`, size, String(linkpath ?? ''))),
    data: () => {},
    end: () => {},
  });
  try {
    parser.write(bytes);
    parser.finish();
    return rows;
  } catch (error) {
    if (error instanceof ArchiveError) return error;
    throw error;
  }
}

/**
 * Lines as `ls -l` has them, of each archive; nothing where the program had anything to say against it. One shell starts it for all of
 * them: from here each would cost ten times as much.
 */
function listed(paths: string[], command: string[], line: RegExp): Listed[] {
  const loop = `for path do ${command.join(' ')} "$path" >"$path.out" 2>"$path.err" || echo failed >>"$path.err"; done`;
  execFileSync('sh', ['-c', loop, 'sh', ...paths], { env: { ...process.env, TZ: 'UTC', LC_ALL: 'C' } });
  return paths.map((path) => {
    if (readFileSync(`${path}.err`, 'latin1') !== '') return undefined;
    return readFileSync(`${path}.out`, 'utf8')
      .split('\n')
      .slice(0, -1)
      .map((text) => {
        const { type, owner, group, size, name = '' } = line.exec(text)?.groups ?? {};
        if (type === undefined) throw new Error(`${command[0]} says ${JSON.stringify(text)}`);
        const [member = '', link = ''] = name.split(/ (?:->|link to) /);
        // A contiguous file is a file.
        const kind = / link to /.test(name) ? 'h' : type === 'C' ? '-' : type;
        return row(member, kind, `${owner}/${group}`, Number(size ?? 0), link);
      });
  });
}

const GNU = /^(?<type>.)\S{9}\s+(?<owner>\d+)\/(?<group>\d+)\s+(?:(?<size>\d+)|\d+,\d+) \S+ \S+ +(?<name>.*)$/;
const BSD =
  /^(?<type>.)\S{9}\s+\d+ (?<owner>\d+)\s+(?<group>\d+)\s+(?:(?<size>\d+)|\d+,\s*\d+) \w{3} [ \d]\d [ :\d]{5} (?<name>.*)$/;

const LIST = String.raw`
import tarfile, sys, json
kinds = {b'0': '-', b'\0': '-', b'7': '-', b'S': '-', b'1': 'h', b'2': 'l', b'3': 'c', b'4': 'b', b'5': 'd', b'6': 'p'}
out = []
for path in sys.argv[1:]:
    try:
        with tarfile.open(path, 'r:', encoding='utf-8', errors='surrogateescape') as t:
            rows = [[m.name, kinds.get(m.type, '?'), '%d/%d' % (m.uid, m.gid), m.size, m.linkname] for m in t.getmembers()]
            t.fileobj.seek(t.offset)
            # At a header that it does not like it stops in silence.
            out.append(None if t.fileobj.read(512).strip(b'\0') else rows)
    except Exception as e: out.append(None)
json.dump(out, sys.stdout)
`;

const judges: [name: string, tool: string, list: (paths: string[]) => Listed[]][] = [
  [
    'GNU tar',
    'tar',
    (paths) => listed(paths, ['tar', '--numeric-owner', '--full-time', '--quoting-style=escape', '-tvf'], GNU),
  ],
  ['bsdtar', 'bsdtar', (paths) => listed(paths, ['bsdtar', '--numeric-owner', '-tvf'], BSD)],
  [
    'Python',
    PYTHON,
    (paths) =>
      (
        JSON.parse(execFileSync(PYTHON, ['-c', LIST, ...paths], { encoding: 'utf8', maxBuffer: 1 << 28 })) as (
          | Parameters<typeof row>[]
          | null
        )[]
      ).map((rows) => rows?.map((each) => row(...each))),
  ],
];

describe('archives of odd headers', () => {
  for (const [name, tool, list] of judges) {
    const there = has(tool);
    it.skipIf(!there)(
      `are to ${name} what they are to us${there ? '' : ` [needs ${tool}]`}`,
      { timeout: COUNT * 200 },
      () => {
        const samples = Array.from({ length: COUNT }, (_, i) => odd(1 + i * 7919));
        const paths = samples.map((bytes, i) => {
          const path = join(folder, String(i));
          writeFileSync(path, bytes);
          return path;
        });
        const theirs = list(paths);
        let compared = 0;
        for (const [i, bytes] of samples.entries()) {
          const mine = ours(bytes);
          if (mine instanceof ArchiveError || theirs[i] === undefined) continue;
          expect(theirs[i], `sample ${i}`).toEqual(mine);
          compared++;
        }
        // Neither does everything odd end in an error.
        expect(compared).toBeGreaterThan(COUNT / 8);
      },
    );
  }
});
