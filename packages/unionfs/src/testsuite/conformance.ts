import assert from 'node:assert/strict';
import {
  chmodSync,
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
   * @throws AssertionError where the driver does something else
   */
  run(driver: Driver): Promise<void>;
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

  constructor(driver: Driver) {
    this.driver = driver;
  }

  create(id: string, parents: readonly string[] = []): void {
    this.driver.create(id, parents);
    this.#made.push(id);
  }

  async layer(id: string, parents: readonly string[], source: AsyncIterable<Uint8Array>): Promise<void> {
    this.create(id, parents);
    const { format } = this.driver;
    await unpackLayer(source, this.driver.directory(id), { format, base: parents.length === 0 });
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
        assert.deepEqual(await summary(changes({ before, after, content: 'read' })), []);
      }),
    );
  }

  clear(): void {
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
      ok((info('.').mode & 0o7777n) === 0o711n && info('.').mtimeNs === TIME, 'the mode or time of the root');
      ok((info('bin').mode & 0o7777n) === 0o2755n && info('bin').mtimeNs === TIME, 'the mode or time of a directory');
      ok((info('bin/su').mode & 0o7777n) === 0o4755n && info('bin/su').mtimeNs === TIME, 'the mode or time of a file');
      ok(info('bin/su').ino === info('bin/link').ino && info('bin/su').nlink === 2n, 'a hard link');
      ok(info('absolute').isSymbolicLink() && info('absolute').mtimeNs === TIME, 'a symbolic link');
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
  async run(driver) {
    const bench = new Bench(driver);
    try {
      await act(bench);
    } finally {
      bench.clear();
    }
  },
}));
