import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
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
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { command } from '../testing/command.js';

const root = process.getuid?.() === 0;
const has = (tool: string) => spawnSync('sh', ['-c', `command -v ${tool}`]).status === 0;
const busybox = has('busybox');
const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const env = { ...process.env, ISO_ROOT: join(folder, 'state') };

function iso(...args: string[]) {
  return spawnSync(process.execPath, [...command, ...args], { encoding: 'utf8', env });
}

function ok(...args: string[]): string {
  const { status, stdout, stderr } = iso(...args);
  // Where it takes long it says how far it is.
  expect(stderr.replace(/^(importing|unpacking|loading|saving) \w+ \(\d+ bytes\)\n/gm, '')).toBe('');
  expect(status).toBe(0);
  return stdout;
}

describe.skipIf(!root || !busybox)('images [needs root and busybox]', () => {
  beforeAll(() => {
    const tree = join(folder, 'tree');
    for (const name of ['bin', 'etc', 'proc', 'sys', 'dev', 'tmp']) mkdirSync(join(tree, name), { recursive: true });
    copyFileSync(
      spawnSync('sh', ['-c', 'command -v busybox'], { encoding: 'utf8' }).stdout.trim(),
      join(tree, 'bin/busybox'),
    );
    for (const name of ['sh', 'cat', 'id', 'touch', 'rm', 'env', 'pwd', 'read'])
      symlinkSync('busybox', join(tree, 'bin', name));
    writeFileSync(join(tree, 'etc/passwd'), 'root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n');
    writeFileSync(join(tree, 'etc/old'), 'old\n');
    // What is mounted on them needs a place: where an image has none, its container adds them.
    for (const name of ['hostname', 'hosts']) writeFileSync(join(tree, 'etc', name), '');
    ok('import', tree, 'small:1');
  });

  it('are run by name and by id, with a layer that goes with the container', () => {
    const id = ok('images', '-q').trim();
    expect(id).toMatch(/^[0-9a-f]{12}$/);
    expect(
      ok('run', '--rm', 'small:1', 'sh', '-c', 'echo $$; cat /etc/old; rm /etc/old; echo new >/etc/new; cat /etc/new'),
    ).toBe('1\nold\nnew\n');
    expect(ok('run', '--rm', id, 'sh', '-c', 'cat /etc/old; cat /etc/new 2>/dev/null || echo none')).toBe(
      'old\nnone\n',
    );
    expect(ok('run', '--rm', '-u', 'user', '-w', '/made/here', 'small:1', 'sh', '-c', 'id -u; pwd')).toBe(
      '1000\n/made/here\n',
    );
    expect(ok('run', '--rm', '--read-only', 'small:1', 'sh', '-c', 'touch /x 2>/dev/null || echo ro')).toBe('ro\n');
    expect(ok('run', '--rm', '--userns', 'private', 'small:1', 'sh', '-c', 'echo x >/etc/old; cat /etc/old')).toBe(
      'x\n',
    );
    const missing = iso('run', '--rm', 'small:1');
    expect(missing).toMatchObject({ status: 125, stderr: 'iso: no command is given, and the image has none\n' });
    expect(iso('run', '--rm', 'no/such:image', 'x')).toMatchObject({ status: 125 });
    expect(iso('run', '--rm', 'small:1', 'nothing')).toMatchObject({ status: 127 });
    // Judged by the directory: what a container wrote is gone with it.
    expect(spawnSync('find', [join(folder, 'state/snapshots'), '-name', 'new'], { encoding: 'utf8' }).stdout).toBe('');
  }, 60_000);

  it.skipIf(!has('skopeo') || !has('umoci'))(
    'are what skopeo and umoci read [needs skopeo and umoci]',
    () => {
      const layout = `oci:${join(folder, 'state/images')}`;
      const seen = JSON.parse(
        spawnSync('skopeo', ['inspect', '--config', `${layout}:docker.io/library/small:1`], { encoding: 'utf8' })
          .stdout,
      );
      const [ours] = JSON.parse(ok('image', 'inspect', 'small:1'));
      expect(ours.RootFS.Layers).toEqual(seen.rootfs.diff_ids);
      ok('save', '-o', join(folder, 'saved.tar'), '--format', 'oci-archive', 'small:1');
      const raw = spawnSync('skopeo', ['inspect', '--raw', `oci-archive:${join(folder, 'saved.tar')}`], {
        encoding: 'utf8',
      });
      expect(JSON.parse(raw.stdout).config.digest).toBe(ours.Id);
    },
    60_000,
  );

  it('are saved, removed and loaded again; tagged; nothing else keeps their blobs', () => {
    const archive = join(folder, 'docker.tar');
    ok('tag', 'small:1', 'localhost:5000/other:2');
    const before = ok('images', '--no-trunc', '-q').trim().split('\n');
    expect(new Set(before).size).toBe(1);
    ok('save', '-o', archive, 'small:1');
    expect(ok('rmi', 'localhost:5000/other:2')).toBe('Untagged: localhost:5000/other:2\n');
    expect(ok('rmi', 'small:1')).toMatch(/^Untagged: small:1\n(Deleted: sha256:[0-9a-f]{64}\n){3}$/);
    expect(readdirSync(join(folder, 'state/images/blobs/sha256'))).toEqual([]);
    expect(ok('load', '-i', archive)).toBe('Loaded image: small:1\n');
    expect(ok('images', '--no-trunc', '-q').trim()).toBe(before[0]);
    expect(ok('run', '--rm', 'small:1', 'cat', '/etc/old')).toBe('old\n');
    expect(iso('rmi', 'never:seen')).toMatchObject({ status: 125 });
  }, 60_000);

  it('are made of what a running container has changed', async () => {
    const child = spawn(
      process.execPath,
      [
        ...command,
        'run',
        '--rm',
        '--name',
        'changing',
        '-i',
        'small:1',
        'sh',
        '-c',
        'rm /etc/old; echo n >/etc/new; echo up; read _',
      ],
      { env },
    );
    await once(child.stdout, 'data');
    const exited = once(child, 'exit');
    expect(ok('diff', 'changing').split('\n').sort()).toEqual(['', 'A /etc/new', 'C /etc', 'D /etc/old']);
    const id = ok('commit', '-m', 'changed', 'changing', 'small:2').trim();
    expect(ok('image', 'inspect', 'small:2')).toContain(`"Id": "${id}"`);
    expect(ok('history', 'small:2').split('\n')[1]).toMatch(/changed$/);
    child.stdin.end();
    await exited;
    expect(ok('run', '--rm', 'small:2', 'sh', '-c', 'cat /etc/new; cat /etc/old 2>/dev/null || echo gone')).toBe(
      'n\ngone\n',
    );
    expect(ok('system', 'df')).toMatch(/^Images +2 /m);
    ok('rmi', 'small:2');
  }, 60_000);

  it('of a container that has ended its layer stays until that is removed', () => {
    const changing = iso(
      'run',
      '--name',
      'kept',
      'small:1',
      'sh',
      '-c',
      'rm /etc/old 2>/dev/null; echo n >>/etc/kept; exit 3',
    );
    expect(changing.status).toBe(3);
    expect(ok('diff', 'kept').split('\n').sort()).toEqual(['', 'A /etc/kept', 'C /etc', 'D /etc/old']);
    expect(ok('cp', 'kept:/etc/kept', '-').length).toBeGreaterThan(0);
    writeFileSync(join(folder, 'given'), 'given\n');
    ok('cp', join(folder, 'given'), 'kept:/etc/given');
    ok('export', '-o', join(folder, 'kept.tar'), 'kept');
    const names = spawnSync('tar', ['tf', join(folder, 'kept.tar')], { encoding: 'utf8' }).stdout;
    expect(names).toMatch(/etc\/kept\n/);
    expect(names).not.toMatch(/etc\/old\n/);
    expect(iso('start', '-a', 'kept').status).toBe(3);
    expect(ok('commit', 'kept', 'small:3')).toMatch(/^sha256:/);
    expect(ok('run', '--rm', 'small:3', 'cat', '/etc/kept', '/etc/given')).toBe('n\nn\ngiven\n');
    ok('rmi', 'small:3');
    expect(iso('rmi', 'small:1').stderr).toBe('iso: image small:1 is used by container kept: remove that first\n');
    const found = () =>
      spawnSync('find', [join(folder, 'state/snapshots'), '-name', 'kept'], { encoding: 'utf8' }).stdout;
    expect(found()).not.toBe('');
    expect(ok('inspect', '-f', '{{.Config.Image}} {{.Path}} {{.State.ExitCode}}', 'kept')).toBe('small:1 sh 3\n');
    ok('rm', 'kept');
    expect(found()).toBe('');
  }, 60_000);

  it('a container shows the command of its image, wherever that is', () => {
    ok('create', '--name', 'by-image', '--entrypoint', 'cat', 'small:1', '/etc/old');
    mkdirSync(join(folder, 'with'));
    writeFileSync(join(folder, 'with/Dockerfile'), 'FROM small:1\nCMD ["sh", "-c", "exit 4"]\n');
    ok('build', '-q', '-t', 'with:command', join(folder, 'with'));
    ok('create', '--name', 'with-command', 'with:command');
    const images = join(folder, 'state/images');
    renameSync(images, `${images}.away`);
    try {
      expect(ok('ps', '-a', '--no-trunc', '--format', '{{.Names}} {{.Command}}')).toBe(
        'with-command "sh -c exit 4"\nby-image "cat /etc/old"\n',
      );
    } finally {
      rmSync(images, { recursive: true, force: true });
      renameSync(`${images}.away`, images);
    }
    ok('rm', 'by-image', 'with-command');
    ok('rmi', 'with:command');
  }, 60_000);

  it('a container whose Node was killed leaves a layer that the next one removes', async () => {
    const child = spawn(
      process.execPath,
      [...command, 'run', '--rm', '-i', 'small:1', 'sh', '-c', 'echo n >/etc/mark; echo up; read _'],
      { env },
    );
    await once(child.stdout, 'data');
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
    const marks = () =>
      spawnSync('find', [join(folder, 'state/snapshots'), '-name', 'mark'], { encoding: 'utf8' }).stdout;
    expect(marks()).not.toBe('');
    ok('run', '--rm', 'small:1', 'sh', '-c', ':');
    expect(marks()).toBe('');
    expect(existsSync(join(folder, 'state/images/index.json'))).toBe(true);
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(folder);
  }, 60_000);
});
