import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CLONE, KernelError, LaunchProgram, launch, type Part, StringArray } from '@iso/sys';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { defaultMaskedPaths, defaultMounts, defaultReadonlyPaths, mountTable, rootfs } from './index.js';
import { programs, inside as run, smallRoot } from './testing/container.js';

const root = process.getuid?.() === 0;
let folder = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const inside = (part: Part, script: string, flags: number = CLONE.NEWPID) => run(folder, part, script, { flags });

describe.skipIf(!root)('rootfs [needs root]', () => {
  it('shows its own mounts and no others, and leaves the host’s table as it was', async () => {
    const before = readFileSync('/proc/self/mountinfo', 'utf8');
    const path = smallRoot(folder);
    const part = rootfs({
      directory: path,
      mounts: [programs, ...defaultMounts({ network: true })],
      maskedPaths: defaultMaskedPaths,
      readonlyPaths: defaultReadonlyPaths,
    });
    const table = await inside(
      part,
      'cat /proc/self/mountinfo',
      CLONE.NEWPID | CLONE.NEWNET | CLONE.NEWIPC | CLONE.NEWCGROUP,
    );
    const targets = table
      .trim()
      .split('\n')
      .map((line) => line.split(' ')[4]);
    expect(targets.filter((target) => target === '/')).toHaveLength(1);
    expect(targets).toEqual(
      expect.arrayContaining([
        '/usr',
        '/proc',
        '/dev',
        '/dev/pts',
        '/dev/shm',
        '/dev/mqueue',
        '/sys',
        '/proc/keys',
        '/proc/sys',
      ]),
    );
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).toBe(before);
  });

  it('hides and protects', async () => {
    const part = rootfs({
      directory: smallRoot(folder),
      mounts: [programs, ...defaultMounts()],
      maskedPaths: defaultMaskedPaths,
      readonlyPaths: defaultReadonlyPaths,
    });
    const text = await inside(
      part,
      `cat /proc/keys /proc/timer_list; ls /sys/firmware; (echo x > /proc/sys/kernel/domainname) 2>/dev/null && echo WROTE;
       (echo x > /usr/x) 2>/dev/null && echo WROTE; stat -c '%n %t:%T %a' /dev/null /dev/zero; ls /dev/pts; echo end`,
      CLONE.NEWPID | CLONE.NEWNET | CLONE.NEWIPC | CLONE.NEWCGROUP,
    );
    expect(text).toBe('/dev/null 1:3 666\n/dev/zero 1:5 666\nptmx\nend\n');
  });

  it('mounts files, links, memory and read-only binds with what is below them', async () => {
    const source = join(folder, 'source');
    mkdirSync(join(source, 'sub'), { recursive: true });
    writeFileSync(join(source, 'file'), 'bound');
    const part = rootfs({
      directory: smallRoot(folder),
      readonly: true,
      mounts: [
        programs,
        { type: 'proc', target: '/proc' },
        { type: 'tmpfs', target: '/tmp', size: 1 << 20, mode: 0o700 },
        { type: 'bind', source, target: '/tmp/deep/er', readonly: true },
        { type: 'file', target: '/tmp/note', content: Buffer.from('hello'), mode: 0o640 },
        { type: 'symlink', target: '/tmp/link', path: 'note' },
        { type: 'directory', target: '/tmp/a/b' },
      ],
    });
    const text = await inside(
      part,
      `cat /tmp/link /tmp/deep/er/file; stat -c %a /tmp /tmp/note; df -k /tmp | { read x; read x size x; echo $size; }; ls -d /tmp/a/b;
       for f in /x /tmp/deep/er/x /usr/x; do touch $f 2>&- && echo WROTE $f; done; touch /tmp/ok && echo fine`,
    );
    expect(text).toBe('hellobound700\n640\n1024\n/tmp/a/b\nfine\n');
    expect(readdirSync(source).sort()).toEqual(['file', 'sub']);
  });

  it('leaves a host with shared mounts byte for byte as it was', () => {
    const script = join(folder, 'shared.mts');
    writeFileSync(
      script,
      `import { readFileSync } from 'node:fs';
       import { rootfs, defaultMounts } from ${JSON.stringify(join(import.meta.dirname, 'index.ts'))};
       import { LaunchProgram, launch, reap, StringArray, CLONE } from ${JSON.stringify(join(import.meta.dirname, '../../sys/src/index.ts'))};
       const before = readFileSync('/proc/self/mountinfo', 'utf8');
       if (!before.includes('shared:')) throw new Error('not shared');
       for (let i = 0; i < 20; i++) {
         const program = new LaunchProgram();
         program.unshare(CLONE.NEWPID | CLONE.NEWNET | CLONE.NEWIPC | CLONE.NEWCGROUP);
         rootfs({ directory: '/', mounts: defaultMounts() }).confine(program);
         program.closeFrom(3);
         program.step('exec', 'execve', ['/bin/true', new StringArray(['true']), new StringArray([])]);
         const { pidfd } = launch(program);
         if (reap(pidfd, { block: true }).code !== 0) throw new Error('failed');
         pidfd.close();
       }
       if (readFileSync('/proc/self/mountinfo', 'utf8') !== before) throw new Error('the host table changed');`,
    );
    const command = `mount --make-rshared / && exec "$0" "$@"`;
    execFileSync('unshare', [
      '-m',
      '--propagation',
      'private',
      'sh',
      '-c',
      command,
      process.execPath,
      '--conditions=iso-source',
      '--import',
      'tsx',
      script,
    ]);
  });
});

describe.skipIf(!root)('a hostile root file system [needs root]', () => {
  const proc = { type: 'proc', target: '/proc' } as const;

  it.each([
    ['/proc is a symbolic link', 'proc', { mounts: [proc] }],
    ['/dev is a symbolic link', 'dev', { mounts: [{ type: 'dev', target: '/dev' } as const] }],
    ['/sys is a symbolic link', 'sys', { mounts: [{ type: 'sysfs', target: '/sys' } as const] }],
  ])('%s: an error with the step, nothing outside', (_title, name, options) => {
    const outside = join(folder, 'outside');
    mkdirSync(outside);
    const path = smallRoot(folder);
    for (const to of [outside, `../../../../../../../../..${outside}`, '/etc']) {
      symlinkSync(to, join(path, name));
      const program = new LaunchProgram();
      program.unshare(CLONE.NEWPID | CLONE.NEWNET);
      void rootfs({ directory: path, ...options }).confine(program);
      program.step('exec', 'execve', ['/bin/true', new StringArray(['true']), new StringArray([])]);
      let error: unknown;
      try {
        launch(program);
      } catch (reason) {
        error = reason;
      }
      expect(KernelError.is(error)).toBe(true);
      expect(error).toMatchObject({ syscall: expect.stringMatching(/openat2|mkdirat/), step: { phase: 'mount' } });
      expect(readdirSync(outside)).toEqual([]);
      expect(readdirSync(join(path, 'etc'))).toEqual([]);
      rmSync(join(path, name));
    }
  });

  it.each(['/lnk/sub', '/up/sub/deeper', '/lnk'])('a target through links stays inside: %s', async (target) => {
    const outside = join(folder, 'outside');
    mkdirSync(outside);
    const path = smallRoot(folder);
    symlinkSync(outside, join(path, 'lnk'));
    symlinkSync(`../../../../../../../../../..${outside}`, join(path, 'up'));
    mkdirSync(join(path, outside), { recursive: true });
    const part = rootfs({
      directory: path,
      mounts: [
        programs,
        { type: 'tmpfs', target },
        { type: 'file', target: `${target}/f`, content: Buffer.from('in') },
      ],
    });
    expect(await inside(part, `cat ${target}/f`)).toBe('in');
    expect(readdirSync(outside)).toEqual([]);
    expect(mountTable().some((mount) => mount.target.startsWith(folder))).toBe(false);
  });

  it('refuses targets that are no paths inside', () => {
    for (const target of ['/', 'relative', '/a/../b', '/a\0b', '']) {
      const program = new LaunchProgram();
      expect(() => rootfs({ directory: '/', mounts: [{ type: 'tmpfs', target }] }).confine(program)).toThrow(TypeError);
    }
  });

  it('names the step where the root is not there', () => {
    const program = new LaunchProgram();
    void rootfs({ directory: join(folder, 'missing') }).confine(program);
    program.step('exec', 'execve', ['/bin/true', new StringArray(['true']), new StringArray([])]);
    expect(() => launch(program)).toThrow(/open_tree.*missing.*ENOENT/);
  });
});
