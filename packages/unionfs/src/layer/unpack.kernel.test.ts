import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { fromSources } from '../../../../test/typescript.js';
import { tarEnd } from '../tar/writer.js';
import { archive, entries } from '../testing/archive.js';
import { judge, makeTree, unpackHere, warmUp } from '../testing/judge.js';
import type { ExtractFormat } from './extract.js';
import { packTree } from './pack.js';
import { type UnpackOptions, unpackLayer } from './unpack.js';

const root = process.getuid?.() === 0;
const needs = root ? '' : ' [needs root]';
const has = (tool: string) => spawnSync('sh', ['-c', `command -v ${tool}`]).status === 0;
let folder = '';
const at = (name: string) => join(folder, name);

beforeAll(warmUp, 60_000);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-unpack-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function unpackTo(name: string, source: string, options: UnpackOptions = {}) {
  mkdirSync(at(name));
  const warnings: unknown[] = [];
  const result = await unpackLayer(source, at(name), { onWarning: (warning) => warnings.push(warning), ...options });
  return { ...result, warnings };
}

const sha256 = (path: string) => `sha256:${execFileSync('sha256sum', [path], { encoding: 'utf8' }).slice(0, 64)}`;

describe('what others archive', () => {
  for (const seed of [1, 2, 3]) {
    it.skipIf(!root)(`of GNU tar comes back whole, seed ${seed}${root ? '' : ' [needs root]'}`, async () => {
      makeTree(at('tree'), seed, 300);
      execFileSync('tar', ['--xattrs', '--xattrs-include=*', '-C', at('tree'), '-cf', at('a.tar'), '.']);
      const { warnings, diffId, digest } = await unpackTo('out', at('a.tar'));
      expect(warnings).toEqual([]);
      expect(judge(at('out'))).toEqual(judge(at('tree')));
      expect([digest, diffId]).toEqual([sha256(at('a.tar')), sha256(at('a.tar'))]);
    });

    const bsdtar = has('bsdtar');
    it.skipIf(!root || !bsdtar)(
      `of bsdtar comes back whole, compressed, seed ${seed}${root ? (bsdtar ? '' : ' [needs bsdtar]') : ' [needs root]'}`,
      async () => {
        makeTree(at('tree'), seed, 300);
        const binary = ['--format', 'pax', '--options', 'hdrcharset=BINARY'];
        execFileSync('bsdtar', ['--xattrs', ...binary, '-C', at('tree'), '-czf', at('a.tgz'), '.'], {
          stdio: 'ignore',
        });
        const { digest, diffId } = await unpackTo('out', at('a.tgz'));
        expect(judge(at('out'))).toEqual(judge(at('tree')));
        execFileSync('sh', ['-c', 'gunzip <"$1" >"$2"', 'sh', at('a.tgz'), at('a.tar')]);
        expect([digest, diffId]).toEqual([sha256(at('a.tgz')), sha256(at('a.tar'))]);
      },
    );
  }
});

describe('what is archived here', () => {
  const readers: [name: string, command: (file: string, to: string) => string[]][] = [
    ['tar', (file, to) => ['tar', '--xattrs', '--xattrs-include=*', '-xpf', file, '-C', to]],
    ['bsdtar', (file, to) => ['bsdtar', '--xattrs', '-xpf', file, '-C', to]],
  ];
  for (const [tool, command] of readers) {
    const there = has(tool);
    it.skipIf(!root || !there)(`is whole to ${tool}${there ? needs : ` [needs ${tool}]`}`, () => {
      makeTree(at('tree'), 7, 300);
      writeFileSync(at('a.tar'), Buffer.concat([...packTree(at('tree'))]));
      mkdirSync(at('out'));
      const [file, ...args] = command(at('a.tar'), at('out'));
      // bsdtar finds fault with names that are no UTF-8, and takes them all the same.
      spawnSync(file as string, args, { env: { ...process.env, LC_ALL: 'C.UTF-8' }, stdio: 'ignore' });
      expect(judge(at('out'), ['root'])).toEqual(judge(at('tree'), ['root']));
    });
  }

  it.skipIf(!root)(`is the same bytes from a copy in another order${needs}`, () => {
    makeTree(at('tree'), 8, 200);
    execFileSync('cp', ['-a', at('tree'), at('copy')]);
    const hash = (name: string) => {
      const sum = createHash('sha256');
      for (const bytes of packTree(at(name), { epoch: 1_000_000_000 })) sum.update(bytes);
      return sum.digest('hex');
    };
    expect(hash('copy')).toBe(hash('tree'));
  });

  it.skipIf(!root)(`maps ids out and back in${needs}`, async () => {
    mkdirSync(at('tree'));
    writeFileSync(at('tree/f'), 'x');
    execFileSync('chown', ['-R', '101000:102000', at('tree')]);
    const idmap = {
      uid: [{ inside: 0, outside: 100_000, count: 65536 }],
      gid: [{ inside: 0, outside: 100_000, count: 65536 }],
    };
    writeFileSync(at('a.tar'), Buffer.concat([...packTree(at('tree'), { idmap })]));
    const listed = execFileSync('tar', ['--numeric-owner', '-tvf', at('a.tar')], { encoding: 'utf8' });
    expect(listed.match(/ 1000\/2000 /g)).toHaveLength(2);
    await unpackTo('out', at('a.tar'), { idmap });
    expect(judge(at('out'))).toEqual(judge(at('tree')));
  });

  it.skipIf(!root)(`tells of directories that are not described, and makes them as others do${needs}`, async () => {
    const range = [{ inside: 0, outside: 100_000, count: 65536 }];
    const said = { path: 'a/said/', type: 'directory', mode: 0o700 } as const;
    mkdirSync(at('out'));
    const umask = process.umask(0o077);
    try {
      const files = archive({ path: 'a/b/f' }, { path: 'a/said/f' }, { path: 'gone/f' }, said, { path: 'gone' });
      const { implied } = await unpackLayer(files, at('out'), { idmap: { uid: range, gid: range } });
      expect(implied.map(String)).toEqual(['', 'a', 'a/b']);
    } finally {
      process.umask(umask);
    }
    const listed = execFileSync('find', ['a', '-type', 'd', '-printf', '%p %m %U:%G\n'], { cwd: at('out') });
    expect(String(listed).trim().split('\n').sort()).toEqual([
      'a 755 100000:100000',
      'a/b 755 100000:100000',
      'a/said 700 100000:100000',
    ]);
  });
});

describe('sparse files', () => {
  for (const format of ['gnu', 'posix:0.0', 'posix:0.1', 'posix:1.0']) {
    it(`of the format ${format} come back with their holes`, async () => {
      mkdirSync(at('tree'));
      const [name, version] = format.split(':');
      execFileSync('sh', [
        '-c',
        `cd "$1"; for i in $(seq 0 60); do printf "part$i" | dd of=many bs=1 seek=$((i*300000)) conv=notrunc status=none; done
         truncate -s 30M many; truncate -s 5M empty; printf x | dd of=end bs=1 seek=2000000 status=none; touch -d @1700000000 *`,
        'sh',
        at('tree'),
      ]);
      const sparse = version ? [`--sparse-version=${version}`] : [];
      execFileSync('tar', ['-S', '-H', name as string, ...sparse, '-C', at('tree'), '-cf', at('a.tar'), '.']);
      expect(statSync(at('a.tar')).size).toBeLessThan(2_000_000);
      await unpackTo('out', at('a.tar'));
      expect(judge(at('out'), ['dirtimes'])).toEqual(judge(at('tree'), ['dirtimes']));
      expect(statSync(at('out/many')).blocks * 512).toBeLessThan(2_000_000);
    });
  }
});

describe('compression', () => {
  for (const [name, command] of [
    ['gzip', 'gzip -c'],
    [
      'gzip of two members, with zeros behind',
      'sh -c \'head -c 100000 "$1" | gzip; tail -c +100001 "$1" | gzip; head -c 1000 /dev/zero\' sh',
    ],
    ['zstd', 'zstd -qc'],
  ] as const) {
    const tool = command.split(' ')[0] as string;
    it.skipIf(!has(tool))(`${name}${has(tool) ? '' : ` [needs ${tool}]`}`, async () => {
      mkdirSync(at('tree'));
      writeFileSync(at('tree/f'), Buffer.alloc(300_000, 'abc'));
      execFileSync('touch', ['-d', '@1700000000', at('tree/f')]);
      execFileSync('tar', ['-C', at('tree'), '-cf', at('a.tar'), '.']);
      execFileSync('sh', ['-c', `${command} "$1" >"$2"`, 'sh', at('a.tar'), at('a.z')]);
      const { digest, diffId, size } = await unpackTo('out', at('a.z'));
      expect([digest, diffId, size]).toEqual([sha256(at('a.z')), sha256(at('a.tar')), statSync(at('a.z')).size]);
      expect(judge(at('out'), ['dirtimes'])).toEqual(judge(at('tree'), ['dirtimes']));
    });
  }

  it('puts a file where its name leads then, as tar does: a link that led elsewhere is gone', async () => {
    const link = (linkpath: string) => ({ path: 'l', type: 'symlink', linkpath }) as const;
    const directories = ['a', 'a/s', 'b', 'b/s'].map((path) => ({ path, type: 'directory' }) as const);
    const sketches = [
      ...directories,
      link('a'),
      { path: 'l/x' },
      { path: 'l/s/x' },
      link('b'),
      { path: 'l/y' },
      { path: 'l/s/y' },
    ];
    writeFileSync(at('a.tar'), Buffer.concat([entries(...sketches), tarEnd()]));
    await unpackTo('ours', at('a.tar'));
    mkdirSync(at('theirs'));
    execFileSync('tar', ['-C', at('theirs'), '-xf', at('a.tar')]);
    const names = (name: string) => readdirSync(at(name), { recursive: true }).sort();
    expect(names('ours')).toEqual(names('theirs'));
    expect(names('ours')).toContain('b/s/y');
  });

  it('that is damaged, of another kind than announced, or not for layers is told', async () => {
    const damaged = execFileSync('gzip', { input: Buffer.alloc(100_000, 'abc') });
    damaged[40] = 0xff;
    writeFileSync(at('bad.gz'), damaged);
    writeFileSync(at('a.bz2'), 'BZh91AY&SY');
    const failing = (source: string, options: UnpackOptions = {}) => unpackLayer(at(source), folder, options);
    await expect(failing('bad.gz')).rejects.toMatchObject({ code: 'ERR_ARCHIVE_COMPRESSION' });
    await expect(failing('a.bz2')).rejects.toMatchObject({ code: 'ERR_ARCHIVE_COMPRESSION' });
    await expect(failing('bad.gz', { expect: { compression: 'zstd' } })).rejects.toMatchObject({
      code: 'ERR_ARCHIVE_COMPRESSION',
    });
  });
});

describe('a layer that is not what it should be', () => {
  it('fails by digest, diffID and size', async () => {
    writeFileSync(at('a.tar'), Buffer.concat([entries({ path: 'x', content: 'hello' }), Buffer.alloc(1024)]));
    mkdirSync(at('out'));
    const zeros = `sha256:${'0'.repeat(64)}`;
    for (const wrong of [{ digest: zeros }, { diffId: zeros }, { size: 5 }, { size: 5_000_000 }]) {
      await expect(unpackLayer(at('a.tar'), at('out'), { expect: wrong })).rejects.toMatchObject({
        code: 'ERR_ARCHIVE_DIGEST',
      });
    }
  });

  it('gives up when it is told to, with the reason, and leaves nothing open', async () => {
    const controller = new AbortController();
    async function* endless() {
      for (let i = 0; ; i++) {
        yield entries({ path: `f${i}`, content: Buffer.alloc(100_000) });
        if (i === 20) controller.abort(new Error('enough'));
        await sleep(1);
      }
    }
    await expect(unpackLayer(endless(), folder, { signal: controller.signal })).rejects.toThrow('enough');
  });

  it('gives up while a FIFO stalls, and takes one that goes on', async () => {
    execFileSync('mkfifo', [at('fifo')]);
    mkdirSync(at('out'));
    const enough = new Error('enough');
    const start = performance.now();
    for (const writes of [false, true]) {
      const writer = writes ? openSync(at('fifo'), 'r+') : undefined;
      if (writer !== undefined) writeSync(writer, entries({ path: 'f', content: 'hello' }).subarray(0, 700));
      const stop = new AbortController();
      setTimeout(() => stop.abort(enough), 100);
      await expect(unpackLayer(at('fifo'), at('out'), { signal: stop.signal })).rejects.toBe(enough);
      if (writer !== undefined) closeSync(writer);
    }
    expect(performance.now() - start).toBeLessThan(20_000);
    writeFileSync(at('a.tar'), Buffer.concat([entries({ path: 'g', content: Buffer.alloc(300_000, 7) }), tarEnd()]));
    const late = spawn('sh', ['-c', 'sleep 0.2; cat "$1" >"$2"', 'sh', at('a.tar'), at('fifo')], { stdio: 'ignore' });
    const { digest } = await unpackLayer(at('fifo'), at('out'), { expect: { digest: sha256(at('a.tar')) } });
    expect(digest).toBe(sha256(at('a.tar')));
    expect(statSync(at('out/g')).size).toBe(300_000);
    if (late.exitCode === null) await once(late, 'exit');
    await expect(unpackLayer(at('nothing'), at('out'))).rejects.toMatchObject({ name: 'KernelError', code: 'ENOENT' });
  });

  it('hands on the error of its source', async () => {
    async function* broken() {
      yield entries({ path: 'x', content: 'hello' });
      throw new Error('connection lost');
    }
    await expect(unpackLayer(broken(), folder)).rejects.toThrow('connection lost');
  });

  it.skipIf(!root)(`says that the disk is full${needs}`, async () => {
    const script = `mount -t tmpfs -o size=1m none "$1" && exec "$2" ${fromSources.join(' ')} -e "
      import('@iso/unionfs').then(async ({ unpackLayer }) => {
        await unpackLayer('$3', '$1').catch((error) => console.log(error.name, error.code, error.path));
      })"`;
    writeFileSync(
      at('a.tar'),
      Buffer.concat([entries({ path: 'big', content: Buffer.alloc(3 << 20, 1) }), Buffer.alloc(1024)]),
    );
    mkdirSync(at('small'));
    const said = execFileSync('unshare', ['-m', 'sh', '-c', script, 'sh', at('small'), process.execPath, at('a.tar')], {
      encoding: 'utf8',
    });
    expect(said.trim()).toBe('KernelError ENOSPC big');
  });
});

describe('whiteouts', () => {
  const lower = () => [
    { path: 'd', type: 'directory' as const },
    { path: 'd/a', content: 'lower a' },
    { path: 'd/b', content: 'lower b' },
    { path: 'd/sub', type: 'directory' as const },
    { path: 'd/sub/x', content: 'lower x' },
    { path: 'e', type: 'directory' as const },
    { path: 'e/f', content: 'lower f' },
    { path: 'e/g', type: 'directory' as const },
    { path: 'e/g/h', content: 'lower h' },
    { path: 'top', content: 'lower top' },
  ];
  const dir = (path: string) => ({ path, type: 'directory' as const });
  const file = (path: string, content = `new ${path}`) => ({ path, content });
  const cases: [
    name: string,
    upper: (ReturnType<typeof file> | ReturnType<typeof dir>)[],
    gone: string[],
    there: string[],
  ][] = [
    ['of a file and a directory', [file('.wh.top'), file('d/.wh.sub')], ['top', 'd/sub'], ['d/a', 'e/f']],
    ['before a new file of the name', [file('d/.wh.a'), file('d/a')], [], ['d/a']],
    ['after a new file of the name', [file('d/a'), file('d/.wh.a')], [], ['d/a']],
    [
      'before a new directory of the name',
      [dir('d'), file('d/.wh.sub'), dir('d/sub'), file('d/sub/n')],
      ['d/sub/x'],
      ['d/sub/n'],
    ],
    [
      'after a new directory of the name',
      [dir('d'), dir('d/sub'), file('d/sub/n'), file('d/.wh.sub')],
      ['d/sub/x'],
      ['d/sub/n'],
    ],
    ['opaque before the content', [dir('e'), file('e/.wh..wh..opq'), file('e/n')], ['e/f', 'e/g'], ['e/n']],
    ['opaque after the content', [dir('e'), file('e/n'), file('e/.wh..wh..opq')], ['e/f', 'e/g'], ['e/n']],
    [
      'opaque after content deep below',
      [dir('e'), dir('e/g'), file('e/g/n'), file('e/.wh..wh..opq')],
      ['e/f', 'e/g/h'],
      ['e/g/n'],
    ],
    [
      'inside of opaque ones',
      [dir('e'), file('e/.wh.f'), file('e/.wh..wh..opq'), file('e/.wh.g')],
      ['e/f', 'e/g'],
      ['e'],
    ],
    ['of what is not there', [file('.wh.nothing'), file('d/.wh.nothing')], [], ['d/a', 'top']],
    [
      'with the book-keeping of aufs',
      [dir('.wh..wh.plnk'), file('.wh..wh.plnk/1.2'), file('.wh..wh.aufs')],
      ['.wh..wh.aufs', '.wh..wh.plnk'],
      ['top'],
    ],
  ];
  for (const [name, upper, gone, there] of cases) {
    it.skipIf(!root)(`${name}: a plain copy and the kernel's overlay show the same${needs}`, async () => {
      for (const folder of ['lower', 'upper', 'plain', 'merged']) mkdirSync(at(folder));
      await unpackHere(archive(...lower()), at('lower'), { format: 'overlay', base: true });
      await unpackHere(archive(...upper), at('upper'), { format: 'overlay' });
      await unpackHere(archive(...lower()), at('plain'), { format: 'plain', base: true });
      await unpackHere(archive(...upper), at('plain'), { format: 'plain' });
      const mount = ['-t', 'overlay', '-o', `lowerdir=${at('upper')}:${at('lower')}`, 'overlay', at('merged')];
      const merged = judge(at('merged'), ['root', 'dirtimes'], mount);
      const plain = judge(at('plain'), ['root', 'dirtimes']);
      for (const state of [merged, plain]) {
        for (const attributes of Object.values(state)) delete attributes.xattrs;
      }
      expect(merged).toEqual(plain);
      expect(Object.keys(plain)).toEqual(expect.arrayContaining(there.map((path) => JSON.stringify(path))));
      for (const path of gone) expect(plain).not.toHaveProperty([JSON.stringify(path)]);
    });
  }

  it.skipIf(!root)(`are left out of the lowest layer and kept as files for aufs${needs}`, async () => {
    for (const [folder, format, base] of [
      ['lowest', 'overlay', true],
      ['aufs', 'aufs', false],
      ['tree', 'tree', false],
    ] as [string, ExtractFormat, boolean][]) {
      mkdirSync(at(folder));
      await unpackHere(archive(dir('d'), file('d/.wh.x'), file('d/.wh..wh..opq')), at(folder), { format, base });
    }
    expect(readdirSync(at('lowest/d'))).toEqual([]);
    expect(readdirSync(at('aufs/d')).sort()).toEqual(['.wh..wh..opq', '.wh.x']);
    expect(readdirSync(at('tree/d')).sort()).toEqual(['.wh..wh..opq', '.wh.x']);
  });
});

describe('a plain user', () => {
  it.skipIf(!root)(`is told what cannot be made, or warned where that was asked for${needs}`, async () => {
    const setid = { mode: 0o6755, uid: 5, gid: 6 };
    const files = [
      { path: 'null', type: 'character' as const, device: { major: 1, minor: 3 } },
      { path: 'f', mode: 0o4755 },
      { path: 'others', ...setid },
      { path: 'others.d', type: 'directory' as const, ...setid },
      { path: 'fifo', type: 'fifo' as const, ...setid },
    ];
    writeFileSync(at('a.tar'), Buffer.concat([entries(...files), Buffer.alloc(1024)]));
    mkdirSync(at('out'));
    execFileSync('chown', ['65534:65534', at('out')]);
    const run = (settings: string) =>
      execFileSync(
        'unshare',
        [
          '-U',
          '--map-root-user',
          process.execPath,
          ...fromSources,
          '-e',
          `
        import('@iso/unionfs').then(async ({ unpackLayer }) => {
          const told = [];
          await unpackLayer('${at('a.tar')}', '${at('out')}', { ...${settings}, onWarning: (warning) => told.push(warning.kind) })
            .then(() => console.log('warned', told.join()), (error) => console.log(error.code, error.hint));
        })`,
        ],
        { encoding: 'utf8' },
      );
    execFileSync('chmod', ['777', at('out')]);
    expect(run('{}')).toContain('EPERM device nodes need CAP_MKNOD');
    expect(run(`{ unsupported: 'warn' }`)).toContain('warned device,owner,owner,owner');
    const modes = readdirSync(at('out')).map(
      (name) => `${name} ${(statSync(at(`out/${name}`)).mode & 0o7777).toString(8)}`,
    );
    // What runs as its owner must not do so as another one.
    expect(modes.sort()).toEqual(['f 4755', 'fifo 755', 'others 755', 'others.d 755']);
  });
});
