import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AT, CLONE, LaunchProgram, O, type Part } from '@iso/sys';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fromSources } from '../../../test/typescript.js';
import { defaultMaskedPaths, defaultMounts, defaultReadonlyPaths, rootfs } from './index.js';
import { programs, inside as run, smallRoot } from './testing/container.js';

const root = process.getuid?.() === 0;
let folder = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const inside = (part: Part, script: string, flags: number = CLONE.NEWPID) => run(folder, part, script, { flags });

describe('rootfs', () => {
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

  it('is found at its mountpoint until it is entered, and is the same then', async () => {
    const path = smallRoot(folder);
    const place = join(folder, 'place');
    mkdirSync(place);
    const part = rootfs({ directory: path, mounts: [programs, { type: 'tmpfs', target: '/tmp' }], mountpoint: place });
    const before = readFileSync('/proc/self/mountinfo', 'utf8');
    // As a program does that comes then.
    const visitor: Part = {
      confine: (program) => {
        const file = program.step('mount', 'openat', [AT.FDCWD, join(place, 'tmp/left'), O.CREAT | O.WRONLY, 0o644]);
        program.step('mount', 'close', [file]);
      },
    };
    const both: Part = {
      confine: (program) => {
        void part.confine(program);
        void visitor.confine(program);
      },
    };
    expect(await inside(both, 'ls /tmp')).toBe('left\n');
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).toBe(before);
    expect(readdirSync(place)).toEqual([]);
    expect(() => rootfs({ directory: path, mountpoint: place, enter: 'chroot' })).toThrow(/pivot_root/);
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

  it.skipIf(!root)('leaves a host with shared mounts byte for byte as it was [needs root]', () => {
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
      ...fromSources,
      script,
    ]);
  });
});

describe('a root file system', () => {
  it('refuses targets that are no paths inside', () => {
    for (const target of ['/', 'relative', '/a/../b', '/a\0b', '']) {
      const program = new LaunchProgram();
      expect(() => rootfs({ directory: '/', mounts: [{ type: 'tmpfs', target }] }).confine(program)).toThrow(TypeError);
    }
  });

  it('names the step where it is not there', async () => {
    await expect(inside(rootfs({ directory: join(folder, 'missing') }), '')).rejects.toThrow(
      /open_tree.*missing.*ENOENT/,
    );
  });
});
