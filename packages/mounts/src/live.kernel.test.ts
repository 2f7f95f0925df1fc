import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CLONE, type Launched, LaunchProgram, launch, reap, StringArray, syscall } from '@iso/sys';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { mountInto, mountTable, rootfs, unmountFrom } from './index.js';

const root = process.getuid?.() === 0;
let folder = '';
let box: Launched | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
});
afterEach(() => {
  if (box) {
    syscall('pidfd_send_signal', box.pidfd, 9, null, 0);
    reap(box.pidfd, { block: true });
    box.pidfd.close();
    box = undefined;
  }
  rmSync(folder, { recursive: true, force: true });
});

/** A process that stands still on a root of its own. */
function start(): Launched {
  const path = join(folder, 'root');
  for (const name of ['usr', 'mnt']) mkdirSync(join(path, name), { recursive: true });
  for (const name of ['bin', 'lib', 'lib64']) symlinkSync(`usr/${name}`, join(path, name));
  symlinkSync(`../../../../../../../..${folder}/outside`, join(path, 'hostile'));
  mkdirSync(join(folder, 'outside'));
  const program = new LaunchProgram();
  program.unshare(CLONE.NEWPID);
  void rootfs({
    directory: path,
    mounts: [{ type: 'bind', source: '/usr', target: '/usr', readonly: true, recursive: true }],
  }).confine(program);
  program.step('exec', 'execve', ['/bin/sleep', new StringArray(['sleep', '60']), new StringArray([])]);
  box = launch(program);
  return box;
}

const seen = (pid: number, target: string) => mountTable({ pid }).filter((mount) => mount.target === target);

describe.skipIf(!root)('a running process [needs root]', () => {
  it('gets a bind and a memory file system, and loses them again', () => {
    const { pid, pidfd } = start();
    const before = readFileSync('/proc/self/mountinfo', 'utf8');
    const descriptors = readdirSync('/proc/self/fd').length;
    const data = join(folder, 'data');
    mkdirSync(data);
    writeFileSync(join(data, 'file'), 'from the host');
    mountInto(pidfd, { type: 'bind', source: data, target: '/new/data', readonly: true });
    mountInto(pid, { type: 'tmpfs', target: '/mnt', size: 65536 });
    expect(
      execFileSync('nsenter', ['-t', String(pid), '-m', '-r', '/bin/cat', '/new/data/file'], { encoding: 'utf8' }),
    ).toBe('from the host');
    const write = spawnSync('nsenter', ['-t', String(pid), '-m', '-r', '/bin/touch', '/new/data/x']);
    expect(write.status).not.toBe(0);
    expect(seen(pid, '/mnt')).toMatchObject([{ type: 'tmpfs' }]);
    unmountFrom(pid, '/mnt');
    unmountFrom(pidfd, '/new/data', { lazy: true });
    expect([...seen(pid, '/mnt'), ...seen(pid, '/new/data')]).toEqual([]);
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).toBe(before);
    expect(readdirSync('/proc/self/fd').length).toBe(descriptors);
  });

  it('keeps targets inside, and says why not', () => {
    const { pid } = start();
    expect(() => mountInto(pid, { type: 'tmpfs', target: '/hostile/x' })).toThrow(
      expect.objectContaining({ name: 'KernelError', step: expect.anything() }),
    );
    expect(readdirSync(join(folder, 'outside'))).toEqual([]);
    expect(() => unmountFrom(pid, '/mnt')).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => unmountFrom(pid, '/no/such')).toThrow(expect.objectContaining({ code: 'ENOENT' }));
    expect(() => unmountFrom(pid, '/')).toThrow(TypeError);
    expect(() => mountInto(pid, { type: 'bind', source: '/no/such', target: '/mnt' })).toThrow(/ENOENT/);
    expect(() => mountInto(0x3fffff, { type: 'tmpfs', target: '/mnt' })).toThrow(
      expect.objectContaining({ code: 'ESRCH' }),
    );
  });
});
