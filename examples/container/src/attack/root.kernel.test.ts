// Root file systems that are attacks: what stands in them leads to the host. A launch that goes by paths, as container engines once did,
// is the proof that each of them works. What they lead to was made for them.
import {
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
import { rootfs } from '@iso/mounts';
import { AT, CLONE, Fd, KernelError, type LaunchProgram, type Part } from '@iso/sys';
import { overlay } from '@iso/unionfs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { inside } from '../../../../test/confined.js';
import { type ContainerOptions, run } from '../index.js';
import { lacking } from '../testing/lacking.js';
import { perl, shell } from './fixture.js';

const missing = lacking('perl');
const SECRET = 'a secret of the host';
const MS_BIND = 4096;
let folder = '';
/** Where nothing may come to be. */
let outside = '';
let path = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
  [outside, path] = [join(folder, 'outside'), join(folder, 'root')];
  for (const name of ['outside', 'root', 'root/usr', 'root/tmp', 'root/etc']) mkdirSync(join(folder, name));
  for (const name of ['bin', 'lib', 'lib64', 'sbin']) symlinkSync(`usr/${name}`, join(path, name));
  writeFileSync(join(folder, 'secret'), SECRET);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const programs = { source: '/usr', target: '/usr', readonly: true };
/** A shell in a container of the hostile root. */
const hostile = (options: Partial<ContainerOptions>, script = 'true') =>
  shell({ ...options, root: path, volumes: [programs, ...(options.volumes ?? [])] }, script);
const refusal = (options: Partial<ContainerOptions>) => hostile(options).then(String, (error) => error);

/** A launch that goes by paths, in a mount namespace of its own. */
const naive = (build: (program: LaunchProgram) => void): Part => ({
  confine(program) {
    program.unshare(CLONE.NEWNS);
    program.step('mount', 'mount', [null, '/', null, 0x4000 | 0x40000, null], { text: 'mount(/, MS_REC|MS_PRIVATE)' });
    build(program);
  },
});

describe.skipIf(missing)(`a hostile root${missing}`, () => {
  it('/dev leads to the host: nothing is made there (CVE-2026-41579, CVE-2026-47766)', async () => {
    for (const to of [outside, `../../../../../../../..${outside}`]) {
      symlinkSync(to, join(path, 'dev'));
      expect(KernelError.is(await refusal({}))).toBe(true);
      expect(readdirSync(outside)).toEqual([]);
      const mknod = naive((program) => program.step('mount', 'mkdirat', [AT.FDCWD, join(path, 'dev/pts'), 0o755]));
      await inside(mknod, 'true');
      expect(readdirSync(outside)).toEqual(['pts']);
      for (const left of [join(outside, 'pts'), join(path, 'dev')]) rmSync(left, { recursive: true });
    }
  });

  it('targets lead to the host: what is made is inside (CVE-2021-30465, CVE-2024-45310)', async () => {
    mkdirSync(join(path, outside), { recursive: true });
    symlinkSync(outside, join(path, 'absolute'));
    symlinkSync(`../../../../../../../..${outside}`, join(path, 'relative'));
    for (const link of ['absolute', 'relative']) {
      const options: Partial<ContainerOptions> = {
        tmpfs: [{ target: `/${link}/tmpfs` }],
        volumes: [{ source: '/usr/share', target: `/${link}/volume`, readonly: true }],
      };
      expect(await hostile(options, `ls /${link}`)).toBe('tmpfs\nvolume\n');
      expect(readdirSync(outside)).toEqual([]);
      await inside(
        naive((program) => program.step('mount', 'mkdirat', [AT.FDCWD, join(path, link, 'volume'), 0o755])),
        'true',
      );
      expect(readdirSync(outside)).toEqual(['volume']);
      rmSync(join(outside, 'volume'), { recursive: true });
    }
  });

  it('the working directory of an image leads to the host: it is made inside (CVE-2022-23648)', async () => {
    mkdirSync(join(path, outside), { recursive: true });
    symlinkSync(outside, join(path, 'link'));
    const root = { source: overlay({ lower: [path], upper: 'tmpfs' }), directory: path };
    expect(await shell({ root, volumes: [programs], cwd: '/link/made' }, 'pwd -P')).toBe(`${outside}/made\n`);
    expect(readdirSync(outside)).toEqual([]);
    await inside(
      naive((program) => program.step('mount', 'mkdirat', [AT.FDCWD, join(path, 'link/made'), 0o755])),
      'true',
    );
    expect(readdirSync(outside)).toEqual(['made']);
  });

  it('/dev/null is a link: what is masked is not what that leads to (CVE-2025-31133)', async () => {
    mkdirSync(join(path, 'dev'));
    symlinkSync(join(folder, 'secret'), join(path, 'dev/null'));
    expect(await hostile({}, 'cat /proc/interrupts /proc/keys; echo end')).toBe('end\n');
    const mask = naive((program) =>
      program.step('mount', 'mount', [join(path, 'dev/null'), '/proc/interrupts', null, MS_BIND, null]),
    );
    expect(await inside(mask, 'cat /proc/interrupts')).toBe(SECRET);
  });

  it('/proc and /sys are links, or fakes (CVE-2019-16884, CVE-2019-19921, CVE-2023-27561)', async () => {
    for (const name of ['proc', 'sys']) {
      symlinkSync(outside, join(path, name));
      expect(await refusal({})).toMatchObject({ step: { phase: 'mount' } });
      expect(readdirSync(outside)).toEqual([]);
      const type = name === 'proc' ? 'proc' : 'sysfs';
      const mount = naive((program) => program.step('mount', 'mount', [type, join(path, name), type, 0, null]));
      expect(await inside(mount, `ls ${outside}`)).not.toBe('');
      rmSync(join(path, name));
    }
    mkdirSync(join(path, 'proc/self/attr'), { recursive: true });
    writeFileSync(join(path, 'proc/version'), 'fake');
    expect(await hostile({}, 'cat /proc/version')).toMatch(/^Linux/);
  });

  it('volumes lie over what the kernel shows (CVE-2023-28642, CVE-2025-52881)', async () => {
    const fake = join(folder, 'fake');
    mkdirSync(join(fake, 'self/attr'), { recursive: true });
    writeFileSync(join(fake, 'version'), 'fake');
    for (const target of ['/proc/self/attr', '/proc/sys', '/proc/self', '/proc/sys/kernel/core_pattern'])
      for (const options of [{ volumes: [{ source: fake, target, readonly: false }] }, { tmpfs: [{ target }] }])
        expect(String(await refusal(options)), target).toMatch(/no target of a mount/);
    const over = naive((program) => program.step('mount', 'mount', [fake, '/proc', null, MS_BIND, null]));
    expect(await inside(over, 'cat /proc/version')).toBe('fake');
  });

  it('the working directory is a descriptor of the host (CVE-2024-21626)', async () => {
    using host = Fd.open(folder, { directory: true });
    for (const cwd of [`/proc/self/fd/${host.number}`, `/proc/1/fd/${host.number}`, '/link'])
      for (const fd of [host.number, 7, 8]) {
        rmSync(join(path, 'link'), { force: true });
        symlinkSync(`/proc/self/fd/${fd}`, join(path, 'link'));
        expect(await refusal({ cwd })).toMatchObject({ step: { phase: 'cwd' } });
      }
    const mounts = [
      { type: 'bind' as const, ...programs, recursive: true },
      { type: 'proc' as const, target: '/proc' },
    ];
    const leaky: Part = {
      async confine(program) {
        await rootfs({ directory: path, mounts }).confine(program);
        program.unshare(CLONE.NEWPID);
        // Before the descriptors are closed.
        program.step('landlock', 'chdir', [`/proc/self/fd/${host.number}`]);
      },
    };
    expect(await inside(leaky, 'cat secret')).toBe(SECRET);
  });

  it('a chroot in a chroot climbs out of nothing', async () => {
    const climb = perl(
      'mkdir "/tmp/j"; chroot "/tmp/j"; chdir ".." for 1 .. 50; chroot "."; open(F, "<", $ARGV[0]) or exit 1; print <F>',
    );
    const script = `${climb} ${folder}/secret; cat /proc/1/root${folder}/secret; true`;
    expect(await hostile({}, `(${script}) 2>/dev/null`)).toBe('');
    mkdirSync(join(path, 'dev'));
    const chrooted = naive((program) => {
      for (const name of ['usr', 'dev'])
        program.step('mount', 'mount', [`/${name}`, join(path, name), null, MS_BIND, null]);
      program.step('root', 'chroot', [path]);
    });
    expect(await inside(chrooted, script)).toContain(SECRET);
  });

  it('layers have names that are options', async () => {
    for (const name of ['a:b', `a,upperdir=${outside}`, 'a\\:b', 'a b', '-o']) {
      const odd = join(folder, name.replaceAll('/', '_'));
      renameSync(path, odd);
      writeFileSync(join(odd, 'marker'), name);
      expect(await shell({ root: odd, volumes: [programs] }, 'cat /marker; touch /made'), name).toBe(name);
      expect(readdirSync(odd)).not.toContain('made');
      renameSync(odd, path);
    }
    expect(readdirSync(outside)).toEqual([]);
    // By mount(2), the same name is two options.
    const upper = join(folder, 'outside');
    mkdirSync(join(upper, 'upper'));
    mkdirSync(join(upper, 'work'));
    const injected = `lowerdir=${path},upperdir=${upper}/upper,workdir=${upper}/work`;
    const joined = naive((program) =>
      program.step('mount', 'mount', ['overlay', join(path, 'tmp'), 'overlay', 0, injected]),
    );
    await inside(joined, `touch ${join(path, 'tmp')}/made`);
    expect(readdirSync(join(upper, 'upper'))).toEqual(['made']);
  });

  it('names are paths', async () => {
    for (const name of ['../x', 'a/b', '.', '..', '', '\n', ' ', 'a\n', '-x', 'x'.repeat(1500)])
      await expect(run({ root: '/', name, command: ['true'] }), JSON.stringify(name)).rejects.toMatchObject({
        name: 'UsageError',
      });
    for (const cgroupParent of ['../../x', 'iso/../../x', '.', '/../x'])
      await expect(
        run({ root: '/', cgroupParent, command: ['true'] }).then(({ exited }) => exited),
        cgroupParent,
      ).rejects.toThrow();
  });

  it('options are more and longer than a table of the kernel’s has room for: whole, or an error (CVE-2021-43784)', async () => {
    const long = Array.from({ length: 6 }, (_, i) => `V${i}=${'x'.repeat(100_000)}`);
    const options = { tmpfs: Array.from({ length: 300 }, (_, i) => ({ target: `/many/${i}`, size: 4096 })), env: long };
    expect(await hostile(options, 'grep -c " /many/" /proc/self/mountinfo; echo ${#V0} ${#V5}')).toBe(
      '300\n100000 100000\n',
    );
    expect(await refusal({ env: [`V=${'x'.repeat(200_000)}`] })).toMatchObject({ code: 'E2BIG' });
    expect(await refusal({ tmpfs: [{ target: `/${'a/'.repeat(40_000)}` }] })).toMatchObject({ code: 'ENAMETOOLONG' });
    expect(await refusal({ cwd: `/${'a/'.repeat(40_000)}` })).toMatchObject({ code: 'ENAMETOOLONG' });
  });

  it('a read-only volume has mounts below it (recursive)', async () => {
    const file = `shm/iso-test-${process.pid}`;
    const volume = (readonly: boolean) => ({ volumes: [{ source: '/dev', target: '/data', readonly }] });
    expect(await shell(volume(true), `touch /data/${file} 2>/dev/null && echo wrote; true`)).toBe('');
    try {
      expect(await shell(volume(false), `touch /data/${file} && echo wrote`)).toBe('wrote\n');
    } finally {
      rmSync(`/dev/${file}`, { force: true });
    }
  });

  it('passwd and group lead to the host, or nowhere (CVE-2024-9676)', async () => {
    writeFileSync(join(folder, 'passwd'), 'victim:x:4242:4242::/:\n');
    symlinkSync(join(folder, 'passwd'), join(path, 'etc/passwd'));
    symlinkSync('/proc/self/fd/0', join(path, 'etc/group'));
    expect(String(await refusal({ user: 'victim' }))).toMatch(/unable to find user victim/);
    expect(String(await refusal({ groupAdd: ['victim'] }))).toMatch(/unable to find group victim|ELOOP/);
    // By a path it is the host's.
    expect(readFileSync(join(path, 'etc/passwd'), 'utf8')).toContain('victim');
  });
});
