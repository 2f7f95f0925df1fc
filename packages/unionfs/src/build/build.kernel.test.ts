// Builds by steps. The judges: podman, whose image of the same Dockerfile must hold the same files and say the same; umoci, which unpacks.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ImageError } from '../content/error.js';
import type { Image } from '../image/image.js';
import { ImageLayout } from '../image/layout.js';
import { openStore } from '../store/open-store.js';
import type { Store } from '../store/store.js';
import { tar } from '../testing/image.js';
import { type Judged, judge, warmUp } from '../testing/judge.js';
import { buildImage } from './build.js';
import type { BuildRun } from './execute.js';
import type { BuildEvent, BuildOptions } from './options.js';
import type { BuildStage, BuildStep } from './step.js';

const root = process.getuid?.() === 0;
let folder = '';
let layout: ImageLayout;
let store: Store;
const at = (name: string) => join(folder, name);
const events: string[] = [];

beforeAll(async () => {
  if (!root) return;
  await warmUp();
  folder = mkdtempSync(join(tmpdir(), 'iso-build-'));
  layout = await ImageLayout.open(at('images'), { create: true, durable: false });
  store = await openStore({ root: at('store'), durability: 'none' });
}, 60_000);
beforeEach(() => {
  events.length = 0;
  rmSync(at('ctx'), { recursive: true, force: true });
  mkdirSync(at('ctx'));
});
afterAll(async () => {
  await store?.[Symbol.asyncDispose]();
  if (folder) rmSync(folder, { recursive: true, force: true });
});

/** Runs commands without any confinement but a root: chroot(8) does not come from here. */
async function chroot({ argv, env, cwd, root: fd, onOutput }: BuildRun) {
  const script = 'cd "$1" && shift && exec /usr/sbin/chroot . "$@"';
  const inside = ['sh', '-c', 'cd "$0" && exec "$@"', cwd, ...argv];
  const variables = Object.fromEntries(env.map((variable) => variable.split(/=(.*)/s).slice(0, 2)));
  const { status, stdout, signal } = spawnSync(
    '/bin/sh',
    ['-c', script, 'sh', `/proc/${process.pid}/fd/${fd.number}`, '/bin/busybox', ...inside],
    { env: variables },
  );
  onOutput(stdout);
  return { code: status, signal };
}

async function build(stages: BuildStage[] | BuildStep[], options: Partial<BuildOptions> = {}): Promise<Image> {
  const all = stages.every((stage) => 'steps' in stage)
    ? (stages as BuildStage[])
    : [{ from: 'scratch', steps: stages as BuildStep[] }];
  return await buildImage(all, {
    layout,
    store,
    context: { directory: at('ctx') },
    execute: chroot,
    onProgress: ({ state, text, output }: BuildEvent) => {
      events.push(`${state} ${state === 'output' ? String(output).trim() : text}`);
    },
    ...options,
  });
}

/** Unpacked by umoci: what an image holds. */
function filesOf(image: Image): Record<string, Judged> {
  const tree = unpacked(image);
  const files = judge(tree, ['root', 'dirtimes']);
  rmSync(join(tree, '..'), { recursive: true });
  return files;
}

let serial = 0;
function unpacked(image: Image): string {
  const name = `b${serial++}`;
  // A name of its own for umoci; the index is the layout's.
  const index = {
    schemaVersion: 2,
    manifests: [{ ...image.descriptor, annotations: { 'org.opencontainers.image.ref.name': 'x' } }],
  };
  const there = at(`umoci-${name}`);
  mkdirSync(there);
  symlinkSync(at('images/blobs'), join(there, 'blobs'));
  copyFileSync(at('images/oci-layout'), join(there, 'oci-layout'));
  writeFileSync(join(there, 'index.json'), JSON.stringify(index));
  execFileSync('umoci', ['unpack', '--image', `${there}:x`, at(name)], { stdio: 'ignore' });
  return at(`${name}/rootfs`);
}

const lacking = ['umoci', 'busybox'].filter((tool) => spawnSync('sh', ['-c', `command -v ${tool}`]).status !== 0);
const needs = root && !lacking.length ? '' : ` [needs root${lacking.map((tool) => `, ${tool}`).join('')}]`;

describe.skipIf(needs !== '')(`a build${needs}`, () => {
  const ctx = (name: string) => at(`ctx/${name}`);
  const write = (name: string, content: string, mode = 0o644) => {
    mkdirSync(join(ctx(name), '..'), { recursive: true });
    writeFileSync(ctx(name), content, { mode });
    utimesSync(ctx(name), 1_000_000_000, 1_000_000_000);
  };
  const busybox = () =>
    copyFileSync(execFileSync('sh', ['-c', 'command -v busybox'], { encoding: 'utf8' }).trim(), ctx('busybox'));

  it('copies files and the content of directories, by docker’s rules', async () => {
    write('a', 'a', 0o640);
    write('dir/b', 'b', 0o755);
    write('dir/sub/c', 'c');
    chmodSync(ctx('dir/sub'), 0o700);
    symlinkSync('/etc/passwd', ctx('dir/absolute'));
    symlinkSync('dir', ctx('link'));
    linkSync(ctx('dir/b'), ctx('dir/hard'));
    execFileSync('setfattr', ['-n', 'user.x', '-v', 'y', ctx('a')]);
    const image = await build([
      { copy: ['a'], to: '/one' },
      { copy: ['a', 'd*'], to: '/two/' },
      { copy: ['link'], to: 'three/four' },
      { copy: ['dir/sub'], to: '/owned/here', chown: '7', chmod: 0o711 },
      { workdir: '/w' },
      { workdir: 'x' },
      { copy: [{ name: 'inline', content: 'text' }, 'a'], to: './' },
    ]);
    const files = filesOf(image);
    const seen = Object.fromEntries(
      Object.entries(files).map(([name, { mode, uid, gid, link }]) => [
        JSON.parse(name),
        [mode, uid, gid, ...(link ? [link] : [])].join(' '),
      ]),
    );
    expect(seen).toEqual({
      one: '0o640 0 0',
      two: '0o755 0 0',
      'two/a': '0o640 0 0',
      'two/b': '0o755 0 0',
      'two/hard': '0o755 0 0',
      'two/absolute': `0o777 0 0 ${Buffer.from('/etc/passwd').toString('hex')}`,
      'two/sub': '0o700 0 0',
      'two/sub/c': '0o644 0 0',
      three: '0o755 0 0',
      'three/four': '0o755 0 0',
      'three/four/b': '0o755 0 0',
      'three/four/hard': '0o755 0 0',
      'three/four/absolute': `0o777 0 0 ${Buffer.from('/etc/passwd').toString('hex')}`,
      'three/four/sub': '0o700 0 0',
      'three/four/sub/c': '0o644 0 0',
      owned: '0o755 7 7',
      'owned/here': '0o755 7 7',
      'owned/here/c': '0o711 7 7',
      w: '0o755 0 0',
      'w/x': '0o755 0 0',
      'w/x/inline': '0o644 0 0',
      'w/x/a': '0o640 0 0',
    });
    expect(files['"one"']).toMatchObject({ mtime: '1000000000000000000', xattrs: { 'user.x': '79' } });
    expect(files['"two/hard"']?.same).toBe(files['"two/b"']?.same);
    expect(image.config.config?.WorkingDir).toBe('/w/x');
  });

  it('cannot be led out of its context, whatever that holds', async () => {
    writeFileSync(at('secret'), 'secret');
    mkdirSync(at('outside'), { recursive: true });
    writeFileSync(at('outside/file'), 'secret');
    symlinkSync(at('secret'), ctx('absolute'));
    symlinkSync('../secret', ctx('relative'));
    symlinkSync('../outside', ctx('up'));
    symlinkSync(at('outside'), ctx('away'));
    symlinkSync('/proc/self/root', ctx('magic'));
    write('inner', 'inside');
    symlinkSync('/inner', ctx('rooted'));
    for (const source of [
      'absolute',
      'relative',
      'up',
      'up/file',
      'away/file',
      'magic/etc/passwd',
      '../secret',
      '/../../secret',
      '*/file',
    ]) {
      await expect(build([{ copy: [source], to: '/x' }]), source).rejects.toSatisfy((error) =>
        ImageError.is(error, 'badStep'),
      );
    }
    // What leads to the root leads to the context's own; a link in a tree is copied as it is.
    const image = await build([
      { copy: ['rooted', '../inner'], to: '/y/' },
      { copy: ['.'], to: '/all' },
    ]);
    const tree = unpacked(image);
    expect([readFileSync(join(tree, 'y/rooted'), 'utf8'), readFileSync(join(tree, 'y/inner'), 'utf8')]).toEqual([
      'inside',
      'inside',
    ]);
    expect(lstatSync(join(tree, 'all/up')).isSymbolicLink()).toBe(true);
    expect(spawnSync('grep', ['-rl', 'secret', tree], { encoding: 'utf8' })).toMatchObject({ status: 1, stdout: '' });
  });

  it('cannot be led out of the image', async () => {
    mkdirSync(at('outside'), { recursive: true });
    write('f', 'new');
    mkdirSync(ctx('links/usr/lib'), { recursive: true });
    symlinkSync(at('outside'), ctx('links/out'));
    symlinkSync('usr/lib', ctx('links/lib'));
    symlinkSync('/usr/lib/target', ctx('links/file'));
    write('links/usr/lib/target', 'old');
    const image = await build([
      { copy: ['links'], to: '/' },
      { copy: ['f'], to: '/out/f' },
      { copy: ['f'], to: '/lib/' },
      { copy: ['f'], to: '/file' },
    ]).catch((error) => error as Error);
    // A link that leads nowhere in the image is an obstacle, not a way.
    expect(String(image)).toMatch(/copy \["f"\] to \/out\/f: \/out is a symbolic link that leads nowhere/);
    expect(readdirSync(at('outside')).filter((name) => name === 'f')).toEqual([]);
    const other = await build([
      { copy: ['links'], to: '/' },
      { copy: ['f'], to: '/lib/' },
      { copy: ['f'], to: '/file' },
    ]);
    const tree = unpacked(other);
    expect(lstatSync(join(tree, 'lib')).isSymbolicLink()).toBe(true);
    expect(readFileSync(join(tree, 'usr/lib/f'), 'utf8')).toBe('new');
    expect(readFileSync(join(tree, 'usr/lib/target'), 'utf8')).toBe('new');
    write('tree/lib/x', 'x');
    write('tree2/usr', 'x');
    const base = { name: 'base', from: 'scratch', steps: [{ copy: ['links'], to: '/' }] };
    for (const [source, why] of [
      ['tree', '/lib is there already, and no directory'],
      ['tree2', '/usr is there already, and a directory'],
    ]) {
      await expect(build([base, { from: 'base', steps: [{ copy: [source as string], to: '/' }] }])).rejects.toThrow(
        why,
      );
    }
  });

  it('leaves out what .dockerignore says, and finds what it brings back', async () => {
    for (const name of ['keep/a', 'drop/b', 'drop/deep/c', 'drop/deep/d', 'e.log', 'x/f.log']) write(name, name);
    symlinkSync('drop', ctx('alias'));
    const context = { directory: at('ctx'), ignore: ['# none', 'drop', '!drop/deep/c', '**/*.log'] };
    const image = await build([{ copy: ['.'], to: '/' }], { context });
    expect(
      Object.keys(filesOf(image))
        .map((name) => JSON.parse(name))
        .sort(),
    ).toEqual(['alias', 'drop', 'drop/deep', 'drop/deep/c', 'keep', 'keep/a', 'x'].sort());
    for (const source of ['e.log', 'drop/b', 'alias/b', 'drop/deep/d', '*.log']) {
      await expect(build([{ copy: [source], to: '/q' }], { context }), source).rejects.toThrow();
    }
  });

  it('leaves out what a step excludes, and keeps the directories that sources lie in', async () => {
    for (const name of ['a.txt', 'b.md', 'd/c.txt', 'd/e/f.txt', 'd/e/g.md', 'h/d/i.txt']) write(name, name);
    chmodSync(ctx('d/e'), 0o750);
    const names = async (step: BuildStep) => {
      const files = filesOf(await build([step]));
      const seen = Object.entries(files).map(([name, { mode }]) => `${JSON.parse(name)} ${mode}`);
      return seen.sort().map((line) => line.replace(/ 0o(644|755)$/, ''));
    };
    const all = { copy: ['.'], to: '/' };
    expect(await names({ ...all, exclude: ['**/*.txt', 'h'] })).toEqual(['b.md', 'd', 'd/e 0o750', 'd/e/g.md']);
    expect(await names({ ...all, exclude: ['*', '!d/e'] })).toEqual(['d', 'd/e 0o750', 'd/e/f.txt', 'd/e/g.md']);
    // A file by its name, in a directory by the path in it.
    expect(await names({ copy: ['*.txt', 'b*', 'd'], to: '/', exclude: ['*.txt'] })).toEqual([
      'b.md',
      'e 0o750',
      'e/f.txt',
      'e/g.md',
    ]);
    const parents = { to: '/p/', parents: true };
    expect(await names({ copy: ['d/e/f.txt', './a.txt'], ...parents })).toEqual([
      'p',
      'p/a.txt',
      'p/d',
      'p/d/e 0o750',
      'p/d/e/f.txt',
    ]);
    expect(await names({ copy: ['h/./d'], ...parents })).toEqual(['p', 'p/d', 'p/d/i.txt']);
    expect(await names({ copy: ['./**/e/*.md', '**/i.txt'], ...parents })).toEqual([
      'p',
      'p/d',
      'p/d/e 0o750',
      'p/d/e/g.md',
      'p/h',
      'p/h/d',
      'p/h/d/i.txt',
    ]);
    symlinkSync('../h', ctx('d/away'));
    await expect(build([{ copy: ['d/./away/d'], ...parents }])).rejects.toThrow('leads out of "d"');
    await expect(build([{ copy: ['**/none'], ...parents }])).rejects.toThrow('nothing matches');
  });

  it('runs commands, each a layer, and does what was done before only once', async () => {
    busybox();
    write('input', '1');
    const steps = (more: BuildStep[] = []): BuildStage[] => [
      {
        name: 'tools',
        from: 'scratch',
        steps: [
          { copy: ['busybox'], to: '/bin/busybox' },
          { copy: ['busybox'], to: '/bin/sh' },
          { arg: { WORD: 'arg', PATH: '/nowhere' } },
          { env: { GREETING: 'hello', PATH: '/bin' } },
          { run: 'busybox echo "$GREETING $WORD $PATH"; busybox mkdir /made; busybox rm /bin/sh' },
          { run: ['busybox', 'touch', '/made/exec form'] },
        ],
      },
      {
        from: 'tools',
        steps: [
          { copy: ['input'], to: '/input' },
          ...more,
          { copy: ['/made/'], from: 'tools', to: '/copied' },
          { cmd: ['x'] },
        ],
      },
    ];
    const cache = at('cache');
    const first = await build(steps(), { cache });
    expect(events.filter((event) => event.startsWith('output'))).toEqual(['output hello arg /bin', 'output ']);
    const files = filesOf(first);
    expect(Object.keys(files).map((name) => JSON.parse(name))).toEqual(
      expect.arrayContaining(['made/exec form', 'copied/exec form', 'bin/busybox', 'input']),
    );
    expect(files['"bin/sh"']).toBeUndefined();
    expect(first.layers.length).toBe(6);
    expect(first.history.filter((step) => !step.empty_layer).length).toBe(6);
    expect(JSON.stringify(first.config)).not.toContain('WORD":');
    events.length = 0;
    const again = await build(steps(), { cache });
    expect(again.digest).toBe(first.digest);
    expect(events.filter((event) => /^(cached|output)/.test(event)).length).toBe(6);
    // Times are no input, contents are; what comes after is done again.
    utimesSync(ctx('input'), 5, 5);
    expect((await build(steps(), { cache })).digest).toBe(first.digest);
    write('input', '2');
    events.length = 0;
    expect((await build(steps([{ run: ['busybox', 'true'] }]), { cache })).digest).not.toBe(first.digest);
    expect(events.filter((event) => event.startsWith('cached')).length).toBe(4);
    // Without its blob a layer is made again.
    await layout.gc();
    events.length = 0;
    await build(steps(), { cache });
    expect(events.filter((event) => event.startsWith('cached'))).toEqual([]);
    expect((await store.walk({ kind: 'active' }).next()).done).toBe(true);
    expect(await store.check()).toEqual([]);
  });

  it('unpacks archives that are added, and only those', async () => {
    const archive = tar(
      { path: 'in/', type: 'directory', mode: 0o750 },
      { path: 'in/f', content: 'f', uid: 3, gid: 4 },
    );
    writeFileSync(ctx('a.tar'), archive);
    writeFileSync(ctx('a.tgz'), gzipSync(archive));
    writeFileSync(ctx('text.gz'), gzipSync('no archive'.repeat(100)));
    writeFileSync(ctx('bad.gz'), Buffer.concat([gzipSync('x'.repeat(5000)).subarray(0, 12), Buffer.alloc(20)]));
    writeFileSync(ctx('b.xz'), Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 0, 0]));
    const image = await build([
      { add: ['a.tar'], to: '/plain' },
      { add: ['a.tgz', 'text.gz', 'bad.gz'], to: '/both/' },
      { add: ['a.tar'], to: '/owned', chown: '8:9' },
      { copy: ['a.tar'], to: '/copied' },
    ]);
    const files = filesOf(image);
    expect(files['"plain/in"']).toMatchObject({ type: '0o40000', mode: '0o750' });
    expect(files['"plain/in/f"']).toMatchObject({ uid: 3, gid: 4, size: 1 });
    expect(files['"both/in/f"']).toMatchObject({ uid: 3 });
    expect(files['"both/text.gz"']).toMatchObject({ type: '0o100000' });
    expect(files['"both/bad.gz"']).toMatchObject({ type: '0o100000' });
    expect(files['"owned/in/f"']).toMatchObject({ uid: 8, gid: 9 });
    expect(files['"copied"']).toMatchObject({ size: archive.length });
    await expect(build([{ add: ['b.xz'], to: '/' }])).rejects.toThrow(/xz.*COPY/);
    await expect(build([{ add: ['git@example.org:x'], to: '/' }])).rejects.toThrow('no repository is fetched');
  });

  it('says where a step was written that fails, and leaves nothing behind', async () => {
    busybox();
    const tools: BuildStep[] = [{ copy: ['busybox'], to: '/bin/busybox' }];
    const origin = { file: 'Dockerfile', line: 3, text: 'RUN false' };
    const failure = await build([...tools, { run: ['busybox', 'sh', '-c', 'exit 3'], origin }]).catch((error) => error);
    expect(failure).toMatchObject({ reason: 'badStep', subject: 'Dockerfile:3' });
    expect(failure.message).toBe('Dockerfile:3: RUN false: the command exited with code 3');
    expect(events.at(-1)).toBe('failed RUN false');
    await expect(build([...tools, { copy: ['busybox'], to: '/x', chown: 'nobody' }])).rejects.toThrow(
      'no user "nobody"',
    );
    await expect(build([{ copy: ['none'], to: '/x' }])).rejects.toThrow('ENOENT');
    await expect(build([{ from: 'no/such', steps: [] }])).rejects.toThrow('from no/such');
    await expect(build([{ from: 'scratch', steps: [{ copy: ['x'], from: 1, to: '/' }] }])).rejects.toThrow(
      'no stage 1',
    );
    const wrong = [
      { copy: ['a'] },
      { cop: ['a'] },
      { run: [] },
      { run: 'a', to: 'b' },
      { env: { 'A=': 'b' } },
      { expose: ['x'] },
    ];
    for (const step of wrong) await expect(build([step as unknown as BuildStep])).rejects.toThrow(TypeError);
    await expect(build(tools, { nocache: true } as object)).rejects.toThrow('"nocache"');
    const controller = new AbortController();
    const slow = build([...tools, { run: 'sleep' }], {
      signal: controller.signal,
      execute: async () => {
        controller.abort(new Error('enough'));
        return { code: 0 };
      },
    });
    await expect(slow).rejects.toThrow('enough');
    expect((await store.walk({ kind: 'active' }).next()).done).toBe(true);
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(folder);
  });

  it('gives the same bytes each time where the epoch is set', async () => {
    busybox();
    const steps: BuildStep[] = [
      { copy: ['busybox'], to: '/bin/busybox' },
      { run: ['busybox', 'touch', '/f'] },
      { workdir: '/w' },
    ];
    const [one, two] = [await build(steps, { epoch: 1000 }), await build(steps, { epoch: 1000 })];
    expect(one.digest).toBe(two.digest);
    expect(filesOf(one)['"f"']).toMatchObject({ mtime: '1000000000000' });
  });

  it('says what docker’s instructions say', async () => {
    const image = await build(
      [
        { env: { A: '1', B: '2' } },
        { env: { A: '3' } },
        { labels: { a: 'x' } },
        { expose: ['80', '53/UDP', '8000-8001'] },
        { volumes: ['/data'] },
        { cmd: ['gone'] },
        { shell: ['/bin/bash', '-ec'] },
        { entrypoint: 'line' },
        { stopSignal: 'SIGINT' },
        { healthcheck: { test: ['true'], interval: 1500, retries: 2 } },
        { user: '5:6' },
        { onBuild: ['RUN x'] },
        { author: 'me' },
      ],
      { labels: { b: 'y' } },
    );
    expect(image.config).toMatchObject({ author: 'me', os: 'linux', history: { length: 13 } });
    expect(image.config.config).toEqual({
      Env: [expect.stringMatching(/^PATH=/), 'A=3', 'B=2'],
      Labels: { a: 'x', b: 'y' },
      ExposedPorts: { '80/tcp': {}, '53/udp': {}, '8000/tcp': {}, '8001/tcp': {} },
      Volumes: { '/data': {} },
      Shell: ['/bin/bash', '-ec'],
      Cmd: ['gone'],
      Entrypoint: ['/bin/bash', '-ec', 'line'],
      StopSignal: 'SIGINT',
      Healthcheck: { Test: ['CMD', 'true'], Interval: 1_500_000_000, Retries: 2 },
      User: '5:6',
      OnBuild: ['RUN x'],
    });
    await layout.tag('example.org/below:1', image);
    const above = await build([
      { from: 'example.org/below:1', steps: [{ entrypoint: ['e'] }, (scope) => [{ env: { C: `${scope.env.A}!` } }]] },
    ]);
    expect(above.config.config).toMatchObject({ Entrypoint: ['e'], Env: expect.arrayContaining(['C=3!']) });
    expect(above.config.config?.Cmd).toBeUndefined();
    await layout.untag('example.org/below:1');
  });
});
