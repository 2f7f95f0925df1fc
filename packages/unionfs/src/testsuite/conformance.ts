import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KernelError } from '@iso/sys';
import { type Change, changes, writeLayer } from '../diff/changes.js';
import type { Driver } from '../driver/driver.js';
import { packTree } from '../layer/pack.js';
import { LayerThread } from '../layer/thread.js';
import { unpackLayer } from '../layer/unpack.js';
import type { TarEntry } from '../tar/entry.js';
import { tarEnd, tarHeader, tarPadding } from '../tar/writer.js';

/** One thing that a driver must do. */
export interface ConformanceCase {
  name: string;
  /**
   * Tries it. Layers that it made are removed, also when it fails.
   *
   * @param driver - in an empty directory
   * @param options - `wholeSeconds`: for a file system that keeps times no finer (zfs-fuse)
   * @throws AssertionError where the driver does something else
   */
  run(driver: Driver, options?: { wholeSeconds?: boolean }): Promise<void>;
}

type File = Partial<TarEntry> & { content?: string };

/** An archive of files by name; what ends in a slash is a directory. */
async function* archive(files: Record<string, File | string>): AsyncGenerator<Buffer> {
  for (const [path, given] of Object.entries(files)) {
    const { content = '', ...rest }: File = typeof given === 'string' ? { content: given } : given;
    const body = Buffer.from(content);
    const type = path.endsWith('/') ? 'directory' : 'file';
    const mode = type === 'directory' ? 0o755 : 0o644;
    const entry = {
      path: Buffer.from(path),
      type,
      mode,
      uid: 0,
      gid: 0,
      size: body.length,
      mtime: TIME,
      ...rest,
    } as TarEntry;
    yield Buffer.concat([tarHeader(entry), body, tarPadding(body.length)]);
  }
  yield tarEnd();
}

const TIME = 1_234_567_890_123_456_789n;

/** A driver whose layers are remembered, so that they can all be removed. */
class Bench {
  readonly driver: Driver;
  readonly #made: string[] = [];
  readonly #thread = new LayerThread();

  /** Nanoseconds that a time is kept to. */
  readonly grain: bigint;

  constructor(driver: Driver, { wholeSeconds = false }: { wholeSeconds?: boolean } = {}) {
    this.driver = driver;
    this.grain = wholeSeconds ? 1_000_000_000n : 1n;
  }

  /** Whether two times are one, as far as the file system can tell. */
  sameTime(a: bigint, b: bigint): boolean {
    return a / this.grain === b / this.grain;
  }

  create(id: string, parents: readonly string[] = []): void {
    this.driver.create(id, parents);
    this.#made.push(id);
  }

  async layer(id: string, parents: readonly string[], source: AsyncIterable<Uint8Array>): Promise<void> {
    this.create(id, parents);
    const { format } = this.driver;
    const settings = { format, base: parents.length === 0, thread: this.#thread };
    const { implied } = await unpackLayer(source, this.driver.directory(id), settings);
    this.driver.adopt?.(id, parents, implied);
  }

  /** The same for a layer that is made before those below are known, where the driver can. */
  async late(id: string, parents: readonly string[], source: AsyncIterable<Uint8Array>): Promise<void> {
    if (!this.driver.adopt) return this.layer(id, parents, source);
    this.create(id);
    const settings = { format: this.driver.format, base: false, thread: this.#thread };
    this.driver.adopt(id, parents, (await unpackLayer(source, this.driver.directory(id), settings)).implied);
  }

  /** Looks at a layer with what is below, or changes it. */
  async inside<T>(
    id: string,
    parents: readonly string[],
    look: (path: string) => T | Promise<T>,
    readonly = true,
  ): Promise<T> {
    using mount = this.driver.open(id, parents, { readonly });
    return await look(`/proc/self/fd/${mount.number}`);
  }

  change(id: string, parents: readonly string[], act: (path: string) => void): Promise<void> {
    return this.inside(id, parents, act, false);
  }

  async changes(id: string, parents: readonly string[]): Promise<string[]> {
    return summary(changes(this.driver.diff(id, parents)));
  }

  /** Fails where two layers do not show the same. */
  async same(a: [id: string, parents: readonly string[]], b: [id: string, parents: readonly string[]]): Promise<void> {
    await this.inside(...a, (before) =>
      this.inside(...b, async (after) => {
        const found = changes({ before, after, content: 'read' });
        const seen = async function* (bench: Bench) {
          for await (const change of found) {
            const { fields, before: old, after: now } = change;
            if (fields.join() !== 'mtime' || !old || !now || !bench.sameTime(old.mtime, now.mtime)) yield change;
          }
        };
        assert.deepEqual(await summary(seen(this)), []);
      }),
    );
  }

  async clear(): Promise<void> {
    await this.#thread.close();
    for (const id of this.#made.reverse()) this.driver.remove(id);
  }
}

async function summary(found: AsyncIterable<Change>): Promise<string[]> {
  const lines: string[] = [];
  for await (const { kind, path, fields } of found)
    lines.push(`${kind} /${path}${fields.length ? ` ${fields.join()}` : ''}`);
  return lines.sort();
}

const ok = (condition: boolean, message: string) => assert.ok(condition, message);

const cases: Record<string, (bench: Bench) => Promise<void>> = {
  'an empty layer shows nothing': async (bench) => {
    bench.create('a');
    assert.deepEqual(await bench.inside('a', [], (path) => readdirSync(path)), []);
    assert.deepEqual(await bench.changes('a', []).then((list) => list.filter((line) => !line.endsWith(' /'))), []);
  },

  'a layer keeps all that an archive holds': async (bench) => {
    const files: Record<string, File | string> = {
      './': { mode: 0o711, mtime: TIME },
      'bin/': { mode: 0o2755 },
      'bin/su': { content: 'su', mode: 0o4755, xattrs: new Map([['user.bytes', Buffer.from([0xff, 0, 0xfe, 0x80])]]) },
      'bin/link': { type: 'link', linkpath: Buffer.from('bin/su') },
      absolute: { type: 'symlink', linkpath: Buffer.from('/lib/systemd/systemd'), mode: 0o777 },
      null: { type: 'character', device: { major: 1, minor: 3 }, mode: 0o666 },
      pipe: { type: 'fifo' },
      owned: { content: 'x', uid: 1234, gid: 4321 },
    };
    await bench.layer('a', [], archive(files));
    await bench.inside('a', [], (path) => {
      const info = (name: string) => lstatSync(`${path}/${name}`, { bigint: true });
      const timed = (name: string) => bench.sameTime(info(name).mtimeNs, TIME);
      ok((info('.').mode & 0o7777n) === 0o711n && timed('.'), 'the mode or time of the root');
      ok((info('bin').mode & 0o7777n) === 0o2755n && timed('bin'), 'the mode or time of a directory');
      ok((info('bin/su').mode & 0o7777n) === 0o4755n && timed('bin/su'), 'the mode or time of a file');
      ok(info('bin/su').ino === info('bin/link').ino && info('bin/su').nlink === 2n, 'a hard link');
      ok(info('absolute').isSymbolicLink() && timed('absolute'), 'a symbolic link');
      ok(info('null').isCharacterDevice() && info('null').rdev === 0x103n, 'a device');
      ok(info('pipe').isFIFO(), 'a fifo');
      ok(info('owned').uid === 1234n && info('owned').gid === 4321n, 'an owner');
    });
    let packed = '';
    await bench.inside('a', [], (path) => {
      packed = Buffer.concat([...packTree(path)]).toString('latin1');
    });
    ok(packed.includes('SCHILY.xattr.user.bytes=\xff\0\xfe\x80'), 'an extended attribute');
  },

  'a layer hides and replaces what is below': async (bench) => {
    const base = {
      'd/': '',
      'd/a': 'a',
      'd/b': 'b',
      'e/': '',
      'e/f': 'f',
      top: 'top',
      was: 'file',
      'is/': '',
      'is/x': 'x',
    };
    await bench.layer('base', [], archive(base));
    const above = { 'd/': '', 'd/.wh.a': '', 'd/c': 'c', 'e/': '', 'e/.wh..wh..opq': '', 'e/g': 'g', '.wh.top': '' };
    await bench.layer('above', ['base'], archive({ ...above, 'was/': '', 'was/in': 'in', is: 'file' }));
    await bench.inside('above', ['base'], (path) => {
      assert.deepEqual(readdirSync(path).sort(), ['d', 'e', 'is', 'was']);
      assert.deepEqual(readdirSync(join(path, 'd')).sort(), ['b', 'c']);
      assert.deepEqual(readdirSync(join(path, 'e')), ['g']);
      assert.equal(readFileSync(join(path, 'was/in'), 'utf8'), 'in');
      assert.equal(readFileSync(join(path, 'is'), 'utf8'), 'file');
    });
    assert.deepEqual(await bench.inside('base', [], (path) => readdirSync(path).sort()), [
      'd',
      'e',
      'is',
      'top',
      'was',
    ]);
  },

  'a change stays in its layer': async (bench) => {
    await bench.layer('base', [], archive({ f: 'below', 'd/': '', 'd/x': 'x' }));
    for (const id of ['one', 'two']) bench.create(id, ['base']);
    await bench.change('one', ['base'], (path) => {
      writeFileSync(join(path, 'f'), 'one');
      rmSync(join(path, 'd'), { recursive: true });
    });
    const read = (id: string, parents: string[]) =>
      bench.inside(id, parents, (path) => readFileSync(join(path, 'f'), 'utf8'));
    assert.deepEqual(
      [await read('base', []), await read('one', ['base']), await read('two', ['base'])],
      ['below', 'one', 'below'],
    );
    ok(await bench.inside('two', ['base'], (path) => existsSync(join(path, 'd/x'))), 'what another layer removed');
    await bench.inside('one', ['base'], (path) => {
      assert.throws(() => writeFileSync(join(path, 'new'), ''), { code: 'EROFS' });
    });
  },

  'changes are found by kind': async (bench) => {
    await bench.layer('base', [], archive({ data: 'a', mode: 'a', gone: 'a', 'dir/': '', 'dir/in': 'a', same: 'a' }));
    bench.create('top', ['base']);
    await bench.change('top', ['base'], (path) => {
      writeFileSync(join(path, 'data'), 'other');
      chmodSync(join(path, 'mode'), 0o600);
      rmSync(join(path, 'gone'));
      rmSync(join(path, 'dir'), { recursive: true });
      writeFileSync(join(path, 'new'), 'new');
    });
    const found = (await bench.changes('top', ['base'])).filter((line) => !/^modify \/ /.test(line));
    assert.deepEqual(found, [
      'add /new',
      'delete /dir',
      'delete /gone',
      'modify /data data,mtime',
      'modify /mode mode',
    ]);
  },

  'changes make the same tree in another layer': async (bench) => {
    await bench.layer(
      'base',
      [],
      archive({ 'a/': '', 'a/b/': '', 'a/b/c': 'c', 'a/d': 'd', f: 'f', 'empty/': '', 'old/': '', 'old/x': 'x' }),
    );
    bench.create('top', ['base']);
    await bench.change('top', ['base'], (path) => {
      rmSync(join(path, 'a/b'), { recursive: true });
      mkdirSync(join(path, 'a/b'));
      writeFileSync(join(path, 'a/b/again'), 'again');
      renameSync(join(path, 'a/d'), join(path, 'empty/d'));
      writeFileSync(join(path, 'n'), 'linked');
      linkSync(join(path, 'n'), join(path, 'm'));
      symlinkSync('n', join(path, 's'));
      rmSync(join(path, 'old'), { recursive: true });
      writeFileSync(join(path, 'old'), 'a file now');
      chmodSync(join(path, 'f'), 0o4711);
    });
    async function* layer() {
      yield* writeLayer(bench.driver.diff('top', ['base']));
    }
    await bench.layer('again', ['base'], layer());
    await bench.same(['top', ['base']], ['again', ['base']]);
  },

  'layers lie on layers on layers': async (bench) => {
    const ids: string[] = [];
    for (let i = 0; i < 12; i++) {
      const files = { [`f${i}`]: String(i), last: String(i), ...(i ? { [`.wh.f${i - 1}`]: '' } : {}) };
      await bench.layer(`l${i}`, ids, archive(files));
      ids.unshift(`l${i}`);
    }
    bench.create('top', ids);
    await bench.inside('top', ids, (path) => {
      assert.deepEqual(readdirSync(path).sort(), ['f11', 'last']);
      assert.equal(readFileSync(join(path, 'last'), 'utf8'), '11');
    });
  },

  'a directory of a lower layer goes, comes again empty, and goes again': async (bench) => {
    bench.create('base');
    await bench.change('base', [], (path) => {
      mkdirSync(join(path, 'd/in'), { recursive: true });
      writeFileSync(join(path, 'd/in/f'), 'f');
    });
    bench.create('gone', ['base']);
    await bench.change('gone', ['base'], (path) => rmSync(join(path, 'd'), { recursive: true }));
    bench.create('again', ['gone', 'base']);
    await bench.change('again', ['gone', 'base'], (path) => {
      ok(!existsSync(join(path, 'd')), 'a directory that was removed below');
      mkdirSync(join(path, 'd'));
    });
    bench.create('last', ['again', 'gone', 'base']);
    await bench.change('last', ['again', 'gone', 'base'], (path) => {
      assert.deepEqual(readdirSync(join(path, 'd')), []);
      rmSync(join(path, 'd'), { recursive: true });
      assert.deepEqual(readdirSync(path), []);
    });
    assert.deepEqual(await bench.inside('base', [], (path) => readdirSync(join(path, 'd/in'))), ['f']);
  },

  'a file is written over in each layer, and each shows its own': async (bench) => {
    const below: string[] = [];
    for (const id of ['one', 'two', 'three']) {
      bench.create(id, [...below]);
      await bench.change(id, [...below], (path) => {
        if (below.length) assert.equal(readFileSync(join(path, 'f'), 'utf8'), below[0]);
        writeFileSync(join(path, 'f'), id);
        writeFileSync(join(path, id), id);
      });
      below.unshift(id);
    }
    for (const [i, id] of below.entries()) {
      await bench.inside(id, below.slice(i + 1), (path) => {
        assert.equal(readFileSync(join(path, 'f'), 'utf8'), id);
        assert.equal(readdirSync(path).length, below.length - i + 1);
      });
    }
  },

  'owners and modes change above, and stay below': async (bench) => {
    bench.create('base');
    await bench.change('base', [], (path) => {
      mkdirSync(join(path, 'd'));
      for (const file of ['f', 'd/f']) writeFileSync(join(path, file), 'data');
    });
    bench.create('top', ['base']);
    await bench.change('top', ['base'], (path) => {
      for (const name of ['f', 'd', 'd/f']) chownSync(join(path, name), 5, 6);
      chmodSync(join(path, 'd/f'), 0o4755);
    });
    const look = (path: string) =>
      ['f', 'd', 'd/f'].map((name) => {
        const { uid, gid } = lstatSync(join(path, name));
        return `${name} ${uid}:${gid}`;
      });
    assert.deepEqual(await bench.inside('top', ['base'], look), ['f 5:6', 'd 5:6', 'd/f 5:6']);
    await bench.inside('top', ['base'], (path) => {
      assert.equal(lstatSync(join(path, 'd/f')).mode & 0o7777, 0o4755);
      assert.equal(readFileSync(join(path, 'd/f'), 'utf8'), 'data');
    });
    assert.deepEqual(await bench.inside('base', [], look), ['f 0:0', 'd 0:0', 'd/f 0:0']);
  },

  'a file of a lower layer gets another name': async (bench) => {
    bench.create('base');
    await bench.change('base', [], (path) => {
      mkdirSync(join(path, 'd'));
      writeFileSync(join(path, 'd/old'), 'content');
    });
    bench.create('top', ['base']);
    await bench.change('top', ['base'], (path) => {
      renameSync(join(path, 'd/old'), join(path, 'd/new'));
      linkSync(join(path, 'd/new'), join(path, 'third'));
    });
    await bench.inside('top', ['base'], (path) => {
      assert.deepEqual(readdirSync(join(path, 'd')), ['new']);
      assert.equal(readFileSync(join(path, 'third'), 'utf8'), 'content');
    });
    assert.deepEqual(await bench.inside('base', [], (path) => readdirSync(join(path, 'd'))), ['old']);
  },

  'the root keeps its mode and owner, and passes them on': async (bench) => {
    bench.create('base');
    await bench.change('base', [], (path) => {
      chmodSync(`${path}/.`, 0o1711);
      chownSync(`${path}/.`, 7, 8);
    });
    bench.create('top', ['base']);
    const root = (path: string) => {
      const { mode, uid, gid } = lstatSync(`${path}/.`);
      return `${(mode & 0o7777).toString(8)} ${uid}:${gid}`;
    };
    assert.equal(await bench.inside('top', ['base'], root), '1711 7:8');
    await bench.change('top', ['base'], (path) => chmodSync(`${path}/.`, 0o700));
    assert.equal(await bench.inside('top', ['base'], root), '700 7:8');
    assert.equal(await bench.inside('base', [], root), '1711 7:8');
  },

  'directories that an archive says nothing of keep the mode and owner that they have below': async (bench) => {
    const base = {
      'd/': { mode: 0o2750, uid: 7, gid: 8 },
      'd/e/': { mode: 0o700 },
      'd/e/f': '',
      'x/': { mode: 0o700 },
    };
    await bench.layer('base', [], archive({ './': { mode: 0o711 }, ...base, 'x/f': '' }));
    await bench.layer('middle', ['base'], archive({ '.wh.x': '' }));
    const files = () => archive({ 'd/e/new': '', 'x/new': '', 'n/m/f': '', 'was/f': '', 'was/': { mode: 0o750 } });
    await bench.layer('top', ['middle', 'base'], files());
    await bench.late('late', ['middle', 'base'], files());
    for (const id of ['top', 'late']) {
      const found = await bench.inside(id, ['middle', 'base'], (path) =>
        ['', 'd', 'd/e', 'x', 'n', 'n/m', 'was'].map((name) => {
          const { mode, uid, gid } = lstatSync(`${path}/${name}/.`);
          return `${name} ${(mode & 0o7777).toString(8)} ${uid}:${gid} ${readdirSync(join(path, name)).join()}`;
        }),
      );
      assert.deepEqual(found, [
        ' 711 0:0 d,n,was,x',
        'd 2750 7:8 e',
        'd/e 700 0:0 f,new',
        'x 755 0:0 new',
        'n 755 0:0 m',
        'n/m 755 0:0 f',
        'was 750 0:0 f',
      ]);
    }
  },

  'an opaque mark on the root of a layer hides all below': async (bench) => {
    const base = { f: 'below', 'd/': '', 'd/x': 'x', 'e/': '', 'e/y': 'y', g: 'below' };
    await bench.layer('base', [], archive(base));
    const files = () => archive({ '.wh..wh..opq': '', 'd/': '', 'd/new': 'new', g: 'above', 'n/m': '' });
    await bench.layer('top', ['base'], files());
    await bench.late('late', ['base'], files());
    for (const id of ['top', 'late']) {
      const seen = await bench.inside(id, ['base'], (path) => [
        ...readdirSync(path, { recursive: true }).sort(),
        readFileSync(join(path, 'g'), 'utf8'),
      ]);
      assert.deepEqual(seen, ['d', 'd/new', 'g', 'n', 'n/m', 'above']);
      const told = await bench.changes(id, ['base']);
      assert.deepEqual(
        told.filter((line) => line.startsWith('delete')),
        ['delete /d/x', 'delete /e', 'delete /f'],
      );
      // What lies on it sees the same.
      await bench.layer(`on-${id}`, [id, 'base'], archive({ 'e/z': 'z' }));
      const above = await bench.inside(`on-${id}`, [id, 'base'], (path) => readdirSync(path, { recursive: true }));
      assert.deepEqual(above.sort(), ['d', 'd/new', 'e', 'e/z', 'g', 'n', 'n/m']);
    }
  },

  'a directory that an archive only hides and writes to is a new one, of that mode and owner, in any order': async (
    bench,
  ) => {
    const lower = { mode: 0o700, uid: 7, gid: 8 };
    const old = { 'd/': lower, 'd/e/': lower, 'd/e/old': '', 'o/': lower, 'o/e/': lower, 'w/': lower, 'w/e/': lower };
    await bench.layer('base', [], archive({ ...old, 'w/e/old': '' }));
    const orders: Record<string, string>[] = [
      { '.wh.d': '', 'd/e/x': '', 'o/.wh..wh..opq': '', 'o/e/x': '', '.wh.w': '', 'w/e/.wh.old': '' },
      { 'd/e/x': '', '.wh.d': '', 'o/e/x': '', 'o/.wh..wh..opq': '', 'w/e/.wh.old': '', '.wh.w': '' },
      {
        'd/e/.wh..wh..opq': '',
        '.wh.d': '',
        'd/e/x': '',
        'o/e/x': '',
        'o/.wh..wh..opq': '',
        'w/e/.wh.old': '',
        '.wh.w': '',
      },
    ];
    for (const [i, files] of orders.entries()) {
      await bench.layer(`top-${i}`, ['base'], archive(files));
      await bench.late(`late-${i}`, ['base'], archive(files));
    }
    for (const id of ['top-0', 'late-0', 'top-1', 'late-1', 'top-2', 'late-2']) {
      const found = await bench.inside(id, ['base'], (path) =>
        ['d', 'd/e', 'o', 'o/e', 'w', 'w/e'].map((name) => {
          const { mode, uid, gid } = lstatSync(join(path, name));
          return `${name} ${(mode & 0o7777).toString(8)} ${uid}:${gid} ${readdirSync(join(path, name)).join()}`;
        }),
      );
      // The mark of an opaque directory says nothing of that itself.
      const made = ['w 755 0:0 e', 'w/e 755 0:0 '];
      assert.deepEqual(found, ['d 755 0:0 e', 'd/e 755 0:0 x', 'o 700 7:8 e', 'o/e 755 0:0 x', ...made], id);
    }
  },

  'a directory that becomes a link leaves the one that it leads to as it is': async (bench) => {
    const link = { type: 'symlink', linkpath: Buffer.from('c'), mode: 0o777 } as const;
    const modes = (id: string, parents: string[]) =>
      bench.inside(id, parents, (path) =>
        ['c/b', 'c/s'].map((name) => (lstatSync(join(path, name)).mode & 0o777).toString(8)),
      );
    const c = { 'c/': '', 'c/b/': { mode: 0o700 }, 'c/s/': { mode: 0o711 } };
    const a = { 'a/b/x': '', 'a/s/': { mode: 0o777 }, a: link };
    await bench.layer('base', [], archive(c));
    await bench.layer('top', ['base'], archive(a));
    await bench.late('late', ['base'], archive(a));
    await bench.layer('whole', ['base'], archive({ ...c, ...a }));
    for (const id of ['top', 'late', 'whole']) assert.deepEqual(await modes(id, ['base']), ['700', '711'], id);
  },

  'layers on one parent are mounted and written at once': async (bench) => {
    bench.create('base');
    await bench.change('base', [], (path) => writeFileSync(join(path, 'f'), 'base'));
    for (const id of ['one', 'two']) bench.create(id, ['base']);
    using one = bench.driver.open('one', ['base']);
    using two = bench.driver.open('two', ['base']);
    for (const { number } of [one, two]) writeFileSync(`/proc/self/fd/${number}/f`, String(number));
    for (const { number } of [one, two])
      assert.equal(readFileSync(`/proc/self/fd/${number}/f`, 'utf8'), String(number));
    one.close();
    one.close();
    assert.equal(await bench.inside('base', [], (path) => readFileSync(join(path, 'f'), 'utf8')), 'base');
  },

  'an archive that wants out does not get out': async (bench) => {
    const outside = mkdtempSync(join(tmpdir(), 'iso-conformance-'));
    try {
      const link = { type: 'symlink', linkpath: Buffer.from(outside) } as const;
      await assert.rejects(bench.layer('bad', [], archive({ l: link, 'l/x': 'evil' })));
      assert.deepEqual(readdirSync(outside), []);
    } finally {
      rmSync(outside, { recursive: true });
    }
  },

  'an id is given once, and free again when its layer is gone': async (bench) => {
    bench.create('a');
    assert.throws(
      () => bench.driver.create('a', []),
      (error: unknown) => KernelError.is(error, 'EEXIST'),
    );
    await bench.change('a', [], (path) => writeFileSync(join(path, 'f'), ''));
    bench.driver.remove('a');
    bench.driver.remove('a');
    bench.driver.create('a', []);
    assert.deepEqual(await bench.inside('a', [], (path) => readdirSync(path)), []);
    for (const id of ['', '.', '..', 'a/b', '-x', '.hidden'])
      assert.throws(() => bench.driver.create(id, []), TypeError);
  },
};

/**
 * The cases. Each needs root, or what the driver needs.
 *
 * @example
 * ```ts root
 * import { mkdtempSync, rmSync } from 'node:fs';
 * import { vfs } from '@iso/unionfs';
 * import { conformance } from '@iso/unionfs/testsuite';
 * const root = mkdtempSync('/tmp/iso-suite-');
 * {
 *   using driver = vfs(root);
 *   await conformance[0]?.run(driver);
 * }
 * rmSync(root, { recursive: true });
 * ```
 */
export const conformance: readonly ConformanceCase[] = Object.entries(cases).map(([name, act]) => ({
  name,
  async run(driver, options) {
    const bench = new Bench(driver, options);
    try {
      await act(bench);
    } finally {
      await bench.clear();
    }
  },
}));
