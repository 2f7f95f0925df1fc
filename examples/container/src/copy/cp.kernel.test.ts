// Files into a running container and out of it. The judges are find(1) and tar(1), here and inside.
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { command } from '../testing/command.js';
import { lacking } from '../testing/lacking.js';

const has = (tool: string) => spawnSync('sh', ['-c', `command -v ${tool}`]).status === 0;
const needs = lacking('busybox');
/** Each command is a start of Node. */
const long = process.env.ISO_LONG !== undefined;
const folder = mkdtempSync(join(tmpdir(), 'iso-cp-'));
const at = (name: string) => join(folder, name);
const env = { ...process.env, ISO_ROOT: at('state') };
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const iso = (...args: string[]) => spawnSync(process.execPath, [...command, ...args], { encoding: 'utf8', env });

function ok(...args: string[]): string {
  const { status, stdout, stderr } = iso(...args);
  expect([args, status, stderr]).toEqual([args, 0, '']);
  return stdout;
}

/** A container that stands still until its input ends; what it prints first comes along. */
async function start(options: string[], script = 'true') {
  const words = [
    'run',
    '--rm',
    '--name',
    'box',
    '-i',
    ...options,
    'sh',
    '-c',
    `${script}; echo up; read _; ls -R /; echo down`,
  ];
  const child: ChildProcess = spawn(process.execPath, [...command, ...words], { env });
  let said = '';
  const up = new Promise<void>((resolve) => {
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      if (said.includes('up\n')) resolve();
    });
  });
  child.stderr?.on('data', (text: Buffer) => (said += String(text)));
  const exited = once(child, 'exit');
  await Promise.race([up, exited]);
  return {
    said: () => said,
    async [Symbol.asyncDispose]() {
      child.stdin?.end();
      await exited;
    },
  };
}

const seen = (directory: string) =>
  execFileSync('find', ['.', '-printf', '%p %y %m %U:%G %l\\n'], { cwd: directory, encoding: 'utf8' })
    .trim()
    .split('\n')
    .sort();

describe.skipIf(needs !== '')(`files of a container${needs}`, () => {
  beforeAll(() => {
    const tree = at('tree');
    for (const name of ['bin', 'etc', 'proc', 'sys', 'dev', 'real', 'data'])
      mkdirSync(join(tree, name), { recursive: true });
    const busybox = execFileSync('sh', ['-c', 'command -v busybox'], { encoding: 'utf8' }).trim();
    copyFileSync(busybox, join(tree, 'bin/busybox'));
    for (const name of ['sh', 'ls', 'mkdir', 'touch', 'chown', 'ln', 'dd', 'stat'])
      symlinkSync('busybox', join(tree, 'bin', name));
    for (const name of ['hostname', 'hosts', 'file']) writeFileSync(join(tree, 'etc', name), '');
    symlinkSync('real', join(tree, 'link'));
    symlinkSync('/real', join(tree, 'absolute'));
    symlinkSync('/etc/file', join(tree, 'filelink'));
    ok('import', tree, 'small:1');
    mkdirSync(at('src/sub'), { recursive: true });
    writeFileSync(at('src/a'), 'a', { mode: 0o640 });
    linkSync(at('src/a'), at('src/sub/hard'));
    symlinkSync('/etc/passwd', at('src/sym'));
    execFileSync('chown', ['5:6', at('src/a')]);
    mkdirSync(at('volume'));
  });

  it('are copied both ways, by docker’s rules', async () => {
    await using box = await start(
      ['-v', `${at('volume')}:/data`, 'small:1'],
      'mkdir /made; touch /made/f; chown 7:8 /made/f; ln -s /etc/passwd /made/evil',
    );
    expect(box.said()).toContain('up\n');
    ok('cp', at('src'), 'box:/new');
    // Known by now.
    const { pid } = JSON.parse(
      readFileSync(
        join(
          at('state/containers'),
          readdirSync(at('state/containers')).find((name) => name.length === 64) as string,
          'state.json',
        ),
        'utf8',
      ),
    ) as { pid: number };
    const inside = (path: string) => seen(`/proc/${pid}/root${path}`);
    ok('cp', at('src'), 'box:/real');
    ok('cp', `${at('src')}/.`, 'box:/link/contents');
    ok('cp', `${at('src')}/.`, 'box:absolute/');
    ok('cp', '-a', at('src/a'), 'box:/real/named');
    ok('cp', at('src/a'), 'box:/filelink');
    ok('cp', at('src/a'), 'box:data/');
    const all = ['./a f 640 0:0', './sub d 755 0:0', './sub/hard f 640 0:0', './sym l 777 0:0 /etc/passwd'];
    const trim = (lines: string[]) => lines.map((line) => line.trim()).sort();
    expect(trim(inside('/new'))).toEqual(trim(['. d 755 0:0', ...all]));
    const below = (name: string) => [`./${name} d 755 0:0`, ...all.map((line) => line.replace('./', `./${name}/`))];
    expect(trim(inside('/real'))).toEqual(
      trim(['. d 755 0:0', ...all, ...below('src'), ...below('contents'), './named f 640 5:6']),
    );
    expect(readFileSync(`/proc/${pid}/root/etc/file`, 'utf8')).toBe('a');
    expect(readdirSync(at('volume'))).toEqual(['a']);
    // Out: a symbolic link stays one, or is followed inside the container.
    ok('cp', 'box:/made', at('out'));
    ok('cp', 'box:made/.', at('out'));
    expect(trim(seen(at('out')))).toEqual(trim(['. d 755 0:0', './f f 644 0:0', './evil l 777 0:0 /etc/passwd']));
    ok('cp', '-a', 'box:/made/f', at('out/owned'));
    expect(trim(seen(at('out')))).toContain('./owned f 644 7:8');
    ok('cp', 'box:/data/a', at('out/from-volume'));
    expect(iso('cp', '-L', 'box:/made/evil', at('out/x'))).toMatchObject({ status: 125 });
    ok('cp', '-L', 'box:/filelink', at('out/followed'));
    expect(readFileSync(at('out/followed'), 'utf8')).toBe('a');
    // Archives on the standard streams.
    const listed = spawnSync(
      'sh',
      ['-c', '"$@" | tar tf -', 'sh', process.execPath, ...command, 'cp', 'box:/made', '-'],
      { encoding: 'utf8', env },
    );
    expect(listed.stdout.split('\n').sort()).toEqual(['', 'made/', 'made/evil', 'made/f']);
    spawnSync(
      'sh',
      ['-c', 'tar cf - -C "$0" src | "$@"', folder, process.execPath, ...command, 'cp', '-', 'box:/made'],
      { env },
    );
    expect(inside('/made').some((line) => line.startsWith('./src/sub/hard f'))).toBe(true);

    const refused: [string, string, RegExp][] = [
      [at('src'), 'box:/etc/file', /is no directory/],
      [at('src/a'), 'box:/none/', /is no directory/],
      [at('src/a'), 'box:/none/x', /there is no directory for box:\/none\/x/],
      [at('none'), 'box:/', /is not there/],
      ['box:/none', at('y'), /is not there/],
      ['box:/made', 'box:/x', /one of source and target/],
      [at('src'), at('z'), /one of source and target/],
      ['nobody:/x', at('z'), /no such container/],
      ['box:/made', at('tree/etc/file'), /is no directory/],
    ];
    for (const [from, to, why] of long ? refused : refused.slice(0, 3)) {
      const { status, stderr } = iso('cp', from, to);
      expect([from, to, status, stderr]).toEqual([from, to, 125, expect.stringMatching(why)]);
    }

    // Export: what is mounted is not part of it.
    ok('export', '-o', at('export.tar'), 'box');
    const names = execFileSync('tar', ['tf', at('export.tar')], { encoding: 'utf8' }).split('\n');
    expect(names).toEqual(
      expect.arrayContaining(['./', 'made/f', 'link', 'bin/busybox', 'real/src/a', 'data/', 'proc/']),
    );
    expect(names.filter((name) => /^(proc|sys|dev|data)\/./.test(name))).toEqual([]);
    if (!long) return;
    ok('import', at('export.tar'), 'exported:1');
    expect(ok('run', '--rm', 'exported:1', 'ls', '/made')).toContain('src');
  }, 60_000);

  it('lie where --storage-driver and --storage-opt say', async () => {
    {
      await using box = await start(
        ['--storage-driver', 'vfs', '--storage-opt', 'size=8m', 'small:1'],
        'dd if=/dev/zero of=/big bs=1M count=20',
      );
      expect(box.said()).toMatch(/No space left on device[\s\S]*up\n/);
      expect(ok('diff', 'box')).toContain('A /big\n');
      expect(readdirSync(at('state'))).toContain('snapshots-vfs');
      expect(JSON.parse(readFileSync(at('state/snapshots-vfs/store.json'), 'utf8'))).toMatchObject({ driver: 'vfs' });
    }
    const full = iso(
      'run',
      '--rm',
      '--storage-opt',
      'size=4m',
      at('tree'),
      'dd',
      'if=/dev/zero',
      'of=/big',
      'bs=1M',
      'count=20',
    );
    expect(full.stderr).toContain('No space left on device');
    for (const [words, why] of [
      [['--storage-opt', 'size=1'], 'a mebibyte or more'],
      [['--storage-opt', 'inodes=1'], 'there is size=BYTES'],
      [['--storage-driver', 'zfs'], 'no program zfs'],
      [['--storage-driver', 'none'], 'Allowed choices'],
    ] as const) {
      const { status, stderr } = iso('run', '--rm', ...words, 'small:1', 'true');
      if (words[1] !== 'zfs' || !has('zfs'))
        expect([words, status, stderr]).toEqual([words, 125, expect.stringContaining(why)]);
    }
    ok('system', 'prune');
    ok('rmi', 'small:1');
    ok('image', 'prune');
    expect(readdirSync(at('state/snapshots-vfs/layers'))).toEqual([]);
  }, 60_000);
});
