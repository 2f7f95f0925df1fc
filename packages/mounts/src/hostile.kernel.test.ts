import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CLONE, KernelError, type LaunchProgram, PR } from '@iso/sys';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fromSources } from '../../../test/typescript.js';
import { defaultMaskedPaths, defaultMounts, defaultReadonlyPaths, type MountSpec, rootfs } from './index.js';
import { inside, programs, smallRoot } from './testing/container.js';

const root = process.getuid?.() === 0;
const proc = { type: 'proc', target: '/proc' } as const;
const SECRET = 'a secret of the host';
const kernelValues = ['/proc/sys/kernel/core_pattern', '/proc/sys/kernel/domainname', '/proc/sys/kernel/hostname'];
let folder = '';
let outside = '';
let path = '';
let before = '';
let mutator: ChildProcess | undefined;

const state = () =>
  [readFileSync('/proc/self/mountinfo', 'utf8'), ...kernelValues.map((file) => readFileSync(file, 'utf8'))].join('\n');

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
  outside = join(folder, 'outside');
  mkdirSync(outside);
  writeFileSync(join(folder, 'secret'), SECRET);
  path = smallRoot(folder);
  before = state();
});
// After each of these: nothing was created outside, nothing was mounted, no value of the kernel has changed.
afterEach(async () => {
  if (mutator) {
    const ended = new Promise((resolve) => mutator?.once('close', resolve));
    mutator.kill('SIGKILL');
    await ended;
    mutator = undefined;
  }
  const left = readdirSync(outside);
  rmSync(folder, { recursive: true, force: true });
  expect(left).toEqual([]);
  expect(state()).toBe(before);
});

/** The error of a start; it names its step. */
async function refusal(mounts: readonly MountSpec[], more: object = {}): Promise<KernelError> {
  const error = await inside(folder, rootfs({ directory: path, mounts, ...more }), 'true', {
    flags: CLONE.NEWPID | CLONE.NEWNET | CLONE.NEWIPC | CLONE.NEWCGROUP,
  }).catch((reason) => reason);
  expect(KernelError.is(error), String(error)).toBe(true);
  expect(error.step).toMatchObject({ index: expect.any(Number), phase: 'mount' });
  return error;
}

const climbs = () => [outside, `../../../../../../../../../..${outside}`, '/proc/self/cwd', '/proc/1/root'];

describe('a root whose places are not what they seem', () => {
  it.each(['proc', 'sys', 'dev', 'dev/pts', 'dev/shm', 'dev/mqueue', 'sys/fs/cgroup'])(
    '/%s leads elsewhere, or is no directory',
    async (name) => {
      const recipes: Record<string, MountSpec> = {
        proc,
        sys: { type: 'sysfs', target: '/sys' },
        dev: { type: 'dev', target: '/dev' },
        'dev/pts': { type: 'devpts', target: '/dev/pts' },
        'dev/shm': { type: 'tmpfs', target: '/dev/shm' },
        'dev/mqueue': { type: 'mqueue', target: '/dev/mqueue' },
        'sys/fs/cgroup': { type: 'cgroup', target: '/sys/fs/cgroup' },
      };
      const place = join(path, name);
      mkdirSync(join(place, '..'), { recursive: true });
      for (const to of climbs()) {
        symlinkSync(to, place);
        // What a link says is looked up inside; a memory file system may go there, what the kernel shows may not.
        await refusal([recipes[name] as MountSpec]).catch((error) => {
          if (name !== 'dev/shm') throw error;
        });
        expect(readdirSync(outside)).toEqual([]);
        rmSync(place);
        rmSync(join(path, folder.split('/')[1] as string), { recursive: true, force: true });
        mkdirSync(join(path, 'tmp'), { recursive: true });
      }
      writeFileSync(place, '');
      expect((await refusal([recipes[name] as MountSpec])).code).toBe('ENOTDIR');
      rmSync(place);
      execFileSync('mkfifo', [place]);
      expect((await refusal([recipes[name] as MountSpec])).code).toBe('ENOTDIR');
    },
  );

  it('a folder with the files of proc in it is mounted over', async () => {
    mkdirSync(join(path, 'proc/self/attr'), { recursive: true });
    writeFileSync(join(path, 'proc/self/attr/exec'), 'fake');
    writeFileSync(join(path, 'proc/version'), 'fake');
    const part = rootfs({
      directory: path,
      mounts: [programs, proc],
      maskedPaths: defaultMaskedPaths,
      readonlyPaths: defaultReadonlyPaths,
    });
    expect(await inside(folder, part, 'cat /proc/version')).toContain('Linux version');
  });

  it('has no /proc, /dev or /sys at all', async () => {
    const part = rootfs({
      directory: path,
      mounts: [programs, ...defaultMounts()],
      maskedPaths: defaultMaskedPaths,
      readonlyPaths: defaultReadonlyPaths,
    });
    const flags = CLONE.NEWPID | CLONE.NEWNET | CLONE.NEWIPC | CLONE.NEWCGROUP;
    expect(await inside(folder, part, 'cat /proc/keys; echo $$; ls /dev/pts', { flags })).toBe('1\nptmx\n');
  });

  it('/dev/null is a link to a value of the kernel: what is masked stays masked (CVE-2025-31133)', async () => {
    mkdirSync(join(path, 'dev'));
    symlinkSync('/proc/sys/kernel/core_pattern', join(path, 'dev/null'));
    const part = rootfs({
      directory: path,
      mounts: [programs, proc],
      maskedPaths: ['/proc/version', '/proc/cmdline', '/proc/sys'],
    });
    const text = await inside(
      folder,
      part,
      'cat /proc/version /proc/cmdline; ls /proc/sys; (echo hacked > /proc/version); echo hacked > /dev/null; echo end; true',
    );
    expect(text.replace(/.*(cannot|can't).*\n/g, '')).toBe('end\n');
  });

  it('/dev/console and /dev/pts/0 are links: a new devpts has nothing of them (CVE-2025-52565)', async () => {
    mkdirSync(join(path, 'dev/pts'), { recursive: true });
    symlinkSync('/proc/sys/kernel/core_pattern', join(path, 'dev/pts/0'));
    symlinkSync('/proc/sys/kernel/core_pattern', join(path, 'dev/console'));
    const part = rootfs({
      directory: path,
      mounts: [programs, proc, { type: 'dev', target: '/dev' }, { type: 'devpts', target: '/dev/pts' }],
    });
    expect(await inside(folder, part, 'ls /dev/pts; test -L /dev/console || echo none')).toBe('ptmx\nnone\n');
  });

  it('a masked path goes through links: what they lead to is hidden, inside', async () => {
    mkdirSync(join(path, 'real'));
    writeFileSync(join(path, 'real/file'), SECRET);
    symlinkSync('real', join(path, 'one'));
    symlinkSync('/one/../real/file', join(path, 'two'));
    symlinkSync(join(folder, 'secret'), join(path, 'three'));
    symlinkSync('four', join(path, 'four'));
    const part = (maskedPaths: string[]) => rootfs({ directory: path, mounts: [programs], maskedPaths });
    expect(
      await inside(folder, part(['/two', '/three', '/no/such', '/real/file/no']), 'cat /real/file /two; ls /real'),
    ).toBe('file\n');
    expect(await inside(folder, part(['/one']), 'ls /real; echo end')).toBe('end\n');
    // A path that cannot be judged is not left unmasked in silence.
    await expect(inside(folder, part(['/four']), 'true')).rejects.toMatchObject({
      code: 'ELOOP',
      step: { phase: 'mount' },
    });
  });
});

describe('targets', () => {
  it('through links, absolute and relative: inside, whatever the kind of mount', async () => {
    symlinkSync(outside, join(path, 'absolute'));
    symlinkSync(`../../../../../../../../../../..${outside}`, join(path, 'relative'));
    symlinkSync('absolute', join(path, 'chain'));
    mkdirSync(join(path, outside), { recursive: true });
    for (const start of ['/absolute', '/relative', '/chain']) {
      const part = rootfs({
        directory: path,
        mounts: [
          programs,
          { type: 'directory', target: `${start}/directory` },
          { type: 'symlink', target: `${start}/link`, path: 'directory' },
          { type: 'tmpfs', target: `${start}/tmpfs` },
          { type: 'bind', source: '/usr/share', target: `${start}/bind/deep`, readonly: true },
          { type: 'file', target: `${start}/file/deep`, content: Buffer.from('in\n') },
        ],
      });
      expect(await inside(folder, part, `cat ${start}/file/deep; ls ${start}`)).toBe(
        'in\nbind\ndirectory\nfile\nlink\ntmpfs\n',
      );
      expect(readdirSync(outside)).toEqual([]);
      rmSync(join(path, outside), { recursive: true });
      mkdirSync(join(path, outside), { recursive: true });
    }
  });

  it('through links of the root into proc: refused (CVE-2025-52881)', async () => {
    symlinkSync('/proc/self/attr', join(path, 'attr'));
    symlinkSync('proc', join(path, 'p'));
    for (const target of ['/attr', '/p/sys', '/p/sysrq-trigger', '/p/self/attr']) {
      const mounts: MountSpec[] = [
        programs,
        proc,
        target.endsWith('trigger') ? { type: 'bind', source: '/dev/null', target } : { type: 'tmpfs', target },
      ];
      const error = await refusal(mounts);
      expect(error.message).toMatch(/leads into proc|ENOENT|EACCES|EPERM/);
    }
  });

  it('that are sockets, pipes, devices and files: a file goes on them, a directory does not', async () => {
    execFileSync('mkfifo', [join(path, 'fifo')]);
    writeFileSync(join(path, 'file'), '');
    const server = createServer().listen(join(path, 'socket'));
    await new Promise((resolve) => server.once('listening', resolve));
    try {
      for (const name of ['fifo', 'file', 'socket']) {
        expect((await refusal([{ type: 'tmpfs', target: `/${name}` }])).code).toBe('ENOTDIR');
        expect((await refusal([{ type: 'tmpfs', target: `/${name}/below` }])).code).toBe('ENOTDIR');
        const part = rootfs({
          directory: path,
          mounts: [programs, { type: 'file', target: `/${name}`, content: Buffer.from('over\n') }],
        });
        expect(await inside(folder, part, `cat /${name}`)).toBe('over\n');
      }
      const error = await refusal([{ type: 'file', target: '/tmp', content: Buffer.from('') }]);
      expect(error.code).toMatch(/^(ENOTDIR|EISDIR|EINVAL)$/);
    } finally {
      await new Promise((resolve) => server.close(resolve));
    }
  });

  it('with odd names are taken as they are; what the kernel cannot take is an error', async () => {
    const names = [
      'new\nline',
      'with space',
      'back\\slash',
      'colon:comma,',
      '-rf',
      'ünïcode',
      ' ',
      '\\040',
      '"quoted"',
      '$(id)',
      '#',
    ];
    const part = rootfs({
      directory: path,
      mounts: [programs, proc, ...names.map((name) => ({ type: 'tmpfs' as const, target: `/odd/${name}` }))],
    });
    const text = await inside(
      folder,
      part,
      'ls -1 --zero /odd 2>/dev/null || ls -1 /odd; grep -c " /odd/" /proc/self/mountinfo',
    );
    for (const name of names) expect(text).toContain(name);
    expect(text).toMatch(new RegExp(`${names.length}\n$`));
    expect(readdirSync(join(path, 'odd')).sort()).toEqual([...names].sort());
    const long = await inside(
      folder,
      rootfs({ directory: path, mounts: [{ type: 'tmpfs', target: `/${'a/'.repeat(8192)}` }] }),
      '',
    ).catch((error) => error);
    expect(long).toMatchObject({ code: 'ENAMETOOLONG' });
    expect(long.message.length).toBeLessThan(1000);
    expect((await refusal([{ type: 'tmpfs', target: `/${'n'.repeat(300)}` }])).code).toBe('ENAMETOOLONG');
    const deep = `/${'d/'.repeat(200)}end`;
    expect(
      await inside(
        folder,
        rootfs({ directory: path, mounts: [programs, { type: 'file', target: deep, content: Buffer.from('deep') }] }),
        `cat ${deep}`,
      ),
    ).toBe('deep');
  });

  it('400 of them', async () => {
    const mounts: MountSpec[] = Array.from({ length: 400 }, (_, i) => ({
      type: 'tmpfs',
      target: `/many/${i}`,
      size: 4096,
    }));
    const part = rootfs({ directory: path, mounts: [programs, proc, ...mounts] });
    expect(await inside(folder, part, "grep -c ' /many/' /proc/self/mountinfo")).toBe('400\n');
  });

  it('that somebody swaps for links to the outside during 200 starts', async () => {
    for (const name of ['volume', 'volume/real', 'volume/real/sub']) mkdirSync(join(path, name));
    symlinkSync(`../../../../../../../../../..${outside}`, join(path, 'volume/link'));
    const exchange = `import { renameSync } from 'node:fs'; import { syscall } from ${JSON.stringify(join(import.meta.dirname, '../../sys/src/index.ts'))};
      process.stdout.write('ready'); const end = Date.now() + 600000;
      while (Date.now() < end) syscall('renameat2', -100, ${JSON.stringify(join(path, 'volume/real'))}, -100, ${JSON.stringify(join(path, 'volume/link'))}, 2);`;
    const file = join(folder, 'exchange.mts');
    writeFileSync(file, exchange);
    mutator = spawn(process.execPath, [...fromSources, file], {
      cwd: join(import.meta.dirname, '../../..'),
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await new Promise((resolve) => mutator?.stdout?.once('data', resolve));
    const outcomes: Record<string, number> = {};
    for (let i = 0; i < 200; i++) {
      const part = rootfs({
        directory: path,
        mounts: [
          programs,
          { type: 'tmpfs', target: '/volume/real/sub' },
          { type: 'directory', target: '/volume/real/made' },
          { type: 'bind', source: '/usr/share', target: '/volume/real/bound' },
          { type: 'file', target: '/volume/real/file', content: Buffer.from('x') },
        ],
        maskedPaths: ['/volume/real/sub'],
        readonlyPaths: ['/volume/real'],
      });
      const outcome = await inside(folder, part, 'true').then(
        () => 'started',
        (error) => {
          expect(KernelError.is(error), String(error)).toBe(true);
          expect(error.step.phase).toBe('mount');
          return error.code as string;
        },
      );
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
      expect(readdirSync(outside)).toEqual([]);
    }
    // The race was one: what is there by turns was met both ways, or every start came through.
    expect(Object.values(outcomes).reduce((sum, count) => sum + count, 0)).toBe(200);
    expect(mutator.exitCode).toBeNull();
  });
});

describe('from inside', () => {
  it('no way to the host by a descriptor, the working directory, or upwards (CVE-2024-21626)', async () => {
    const part = rootfs({ directory: path, mounts: [programs, proc] });
    const up = '../'.repeat(20);
    const text = await inside(
      folder,
      part,
      `pwd; ls /proc/self/fd | tr '\\n' ' '; for i in 3 4 5 6 7 8 9 10 11 12 20 64; do cat /proc/self/fd/$i/${up}${folder}/secret 2>&-; (cd /proc/self/fd/$i) 2>&- && echo in $i; done
       cat ${up}${folder}/secret /proc/self/cwd/${up}${folder}/secret /proc/1/root/${folder}/secret 2>&-; echo end`,
    );
    expect(text).toMatch(/^\/\n0 1 2 (3 )?end\n$/);
  });

  it('a working directory that is a descriptor is refused or inside', async () => {
    for (const fd of [3, 4, 5, 6, 7, 8, 9, 10]) {
      const part = rootfs({ directory: path, mounts: [programs, proc] });
      const more = (program: LaunchProgram) => void program.step('cwd', 'chdir', [`/proc/self/fd/${fd}`]);
      await expect(inside(folder, part, 'pwd', { more })).rejects.toMatchObject({
        code: 'ENOENT',
        step: { phase: 'cwd' },
      });
    }
  });

  const attack = `
    umount /proc/keys 2>&-; umount -l /proc/keys 2>&-; umount /proc/acpi 2>&-; mount -o remount,rw,bind /proc/sys 2>&-; mount -o remount,rw,bind / 2>&-; mount -o remount,rw / 2>&-
    cat /proc/keys; ls /proc/acpi; (echo hacked > /proc/sys/kernel/domainname) 2>&- && echo WROTE sysctl; (touch /hacked) 2>&- && echo WROTE root; mount --move /proc/keys /tmp 2>&- && echo MOVED
    mount -t tmpfs x /tmp 2>&- && echo mounted; echo end`;
  const confined = (extra: object = {}) =>
    rootfs({
      directory: path,
      readonly: true,
      mounts: [programs, proc, { type: 'tmpfs', target: '/tmp' }],
      maskedPaths: defaultMaskedPaths,
      readonlyPaths: defaultReadonlyPaths,
      ...extra,
    });
  const withoutAdmin = (program: LaunchProgram) => {
    program.step('bounding', 'prctl', [PR.CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0]);
  };

  beforeEach(() => mkdirSync(join(path, 'proc')));

  it('container root without CAP_SYS_ADMIN changes no mount', async () => {
    for (const user of root ? [false, true] : [true])
      expect(await inside(folder, confined(), attack, { user, more: withoutAdmin })).toBe('end\n');
    expect(readdirSync(path)).not.toContain('hacked');
  });

  it('nor does root of a further user namespace: every mount is locked to it', async () => {
    const script = `cat > /tmp/attack <<'EOF'\n${attack}\nEOF\nunshare -Urm sh /tmp/attack`;
    for (const user of root ? [false, true] : [true]) {
      expect(await inside(folder, confined(), script, { user })).toBe('mounted\nend\n');
    }
    expect(readdirSync(path)).not.toContain('hacked');
  });

  it('root of the user namespace that the mounts were made in owns them, but for what its creator has locked', async () => {
    const text = await inside(
      folder,
      confined(),
      'umount /proc/acpi && echo uncovered; mount -o remount,rw,bind / && touch /own && echo wrote',
      { user: true },
    );
    // As documented: these are no boundary against CAP_SYS_ADMIN in the namespace that owns them.
    expect(text).toContain('wrote\n');
    rmSync(join(path, 'own'));
  });
});

const CAP_SYS_ADMIN = 21;
