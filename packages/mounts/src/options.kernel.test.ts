import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CLONE, LaunchProgram } from '@iso/sys';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fromSources } from '../../../test/typescript.js';
import { type MountSpec, MountTree, rootfs } from './index.js';
import { inside, programs, smallRoot } from './testing/container.js';
import { inOwnNamespace } from './testing/own-namespace.js';

const root = process.getuid?.() === 0;
const v1 = readFileSync('/proc/self/mountinfo', 'utf8').includes(' - cgroup ');
let folder = '';
let before = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
  before = readFileSync('/proc/self/mountinfo', 'utf8');
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
  expect(readFileSync('/proc/self/mountinfo', 'utf8')).toBe(before);
});

const proc = { type: 'proc', target: '/proc' } as const;

describe('lines of a recipe', () => {
  it('memory file systems with their limits, mode and owner', async () => {
    const part = rootfs({
      directory: smallRoot(folder),
      mounts: [
        programs,
        {
          type: 'tmpfs',
          target: '/m',
          size: 65536,
          nrInodes: 10,
          mode: 0o750,
          uid: 0,
          gid: 0,
          noexec: true,
          atime: 'noatime',
        },
        proc,
      ],
    });
    const text = await inside(
      folder,
      part,
      `stat -c '%a %u:%g' /m; grep ' /m ' /proc/self/mountinfo | cut -d' ' -f6,8-; i=0; while touch /m/$i 2>&-; do i=$((i+1)); done; echo $i
       (cat /usr/bin/dash /usr/bin/dash > /m/0) 2>&-; stat -c %s /m/0`,
    );
    expect(text).toMatch(/^750 0:0\nrw,noexec,noatime tmpfs none rw,size=64k,nr_inodes=10,mode=750.*\n9\n65536\n$/);
  });

  it.skipIf(!root)('an owner of a memory file system [needs root]', async () => {
    const part = rootfs({
      directory: smallRoot(folder),
      mounts: [programs, { type: 'tmpfs', target: '/m', uid: 33, gid: 44 }],
    });
    expect(await inside(folder, part, 'stat -c %u:%g /m')).toBe('33:44\n');
  });

  it('devices by path', async () => {
    const part = rootfs({
      directory: smallRoot(folder),
      mounts: [
        programs,
        { type: 'dev', target: '/dev' },
        { type: 'device', source: '/dev/zero', target: '/dev/mine' },
        { type: 'device', source: '/dev/full' },
      ].slice(0, 3) as MountSpec[],
    });
    expect(await inside(folder, part, "stat -c '%F %t:%T' /dev/mine; head -c 3 /dev/mine | od -An -tx1")).toBe(
      'character special file 1:5\n 00 00 00\n',
    );
    for (const [source, code] of [
      ['/etc/passwd', 'ENODEV'],
      ['/dev/no-such', 'ENOENT'],
      ['/usr', 'ENODEV'],
    ] as const) {
      const recipe = rootfs({ directory: '/', mounts: [{ type: 'device', source }] });
      await expect(inside(folder, recipe, '')).rejects.toMatchObject({ code, path: source });
    }
  });

  it('read-only binds with the mounts below them, and only them', () => {
    inOwnNamespace(
      folder,
      `${helpers()}
       fs.mkdirSync(folder + '/source/sub', { recursive: true });
       iso.mount('outer', folder + '/source', 'tmpfs');
       fs.mkdirSync(folder + '/source/sub');
       iso.mount('inner', folder + '/source/sub', 'tmpfs');
       const bind = { type: 'bind', source: folder + '/source', target: '/data' };
       const tries = 'for f in /data/x /data/sub/x; do (touch $f) 2>&- && echo wrote $f; done; true';
       const run = (extra) => inside(folder, iso.rootfs({ directory: small, mounts: [programs, { ...bind, ...extra }] }), tries, { user: false });
       assert.equal(await run({ readonly: true, recursive: true }), '');
       assert.equal(await run({ readonly: true }), '');
       assert.equal(fs.existsSync(folder + '/source/sub/x'), false);
       assert.equal(await run({ recursive: true }), 'wrote /data/x\\nwrote /data/sub/x\\n');
       // The root directory: what the host has mounted below it is as read-only.
       fs.mkdirSync(small + '/below', { recursive: true });
       iso.mount('below', small + '/below', 'tmpfs');
       const part = iso.rootfs({ directory: small, readonly: true, mounts: [programs] });
       assert.equal(await inside(folder, part, 'for f in /x /below/x; do (touch $f) 2>&- && echo wrote $f; done; true', { user: false }), '');`,
    );
  });

  it('attributes that are taken away, and those that are locked', () => {
    inOwnNamespace(
      folder,
      `${helpers()}
       fs.mkdirSync(folder + '/source');
       iso.mount('x', folder + '/source', 'tmpfs', iso.MS.NODEV | iso.MS.NOSUID | iso.MS.NOEXEC | iso.MS.RDONLY);
       const line = { type: 'bind', source: folder + '/source', target: '/data' };
       const run = (extra, user) => inside(folder, iso.rootfs({ directory: small, mounts: [programs, { type: 'proc', target: '/proc' }, { ...line, ...extra }] }), "grep ' /data ' /proc/self/mountinfo | cut -d' ' -f6", { user });
       assert.equal(await run({}, false), 'ro,nosuid,nodev,noexec,relatime\\n');
       assert.equal(await run({ clear: ['readonly', 'noexec'] }, false), 'rw,nosuid,nodev,relatime\\n');
       // Kept in a user namespace, whatever else is set; and named when they are to go.
       assert.equal(await run({ readonly: true }, true), 'ro,nosuid,nodev,noexec,relatime\\n');
       assert.equal(await run({}, true), 'ro,nosuid,nodev,noexec,relatime\\n');
       await assert.rejects(run({ clear: ['nodev', 'readonly'] }, true), (error) => {
         assert.equal(error.code, 'EPERM');
         assert.equal(error.syscall, 'mount_setattr');
         assert.equal(error.step.phase, 'mount');
         assert.match(error.hint, /source has nodev, readonly, which a user namespace cannot clear/);
         return true;
       });`,
    );
  });

  it('mounts that travel: to a slave, to and from a peer, nowhere by default', () => {
    inOwnNamespace(
      folder,
      `${helpers()}
       fs.mkdirSync(folder + '/source/sub', { recursive: true });
       iso.mount('source', folder + '/source', 'tmpfs');
       for (const name of ['sub', 'inner']) fs.mkdirSync(folder + '/source/' + name);
       const before = fs.readFileSync('/proc/self/mountinfo', 'utf8');
       const wait = (test) => { for (let i = 0; i < 500; i++) { if (test()) return true; Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20); } };
       const seen = {};
       for (const propagation of ['private', 'slave', 'shared']) {
         const part = iso.rootfs({ directory: small, mounts: [programs, { type: 'bind', source: folder + '/source', target: '/data', propagation, recursive: true }] });
         const box = await start(folder, part, ['/bin/sh', '-c', 'mount -t tmpfs inside /data/inner && echo ready; exec sleep 60'], { user: false });
         try {
           assert.ok(wait(() => fs.readFileSync(folder + '/out', 'utf8') === 'ready\\n'));
           const here = iso.mountTable().filter((mount) => mount.source === 'inside').length;
           iso.mount('from-the-host', folder + '/source/sub', 'tmpfs');
           const there = iso.mountTable({ pid: box.pid }).filter((mount) => mount.source === 'from-the-host').length;
           seen[propagation] = [there, here];
           iso.umount(folder + '/source/sub');
         } finally {
           sys.syscall('pidfd_send_signal', box.pidfd, 9, null, 0);
           sys.reap(box.pidfd, { block: true });
           box.pidfd.close();
         }
         if (propagation === 'shared') iso.umount(folder + '/source/inner');
         assert.equal(fs.readFileSync('/proc/self/mountinfo', 'utf8'), before);
       }
       assert.deepEqual(seen, { private: [0, 0], slave: [1, 0], shared: [1, 1] });`,
      { shared: true },
    );
  });

  it.skipIf(!root)('any mount that exists: a tree held here, as a line and as the root [needs root]', async () => {
    using data = MountTree.create('tmpfs', { readonly: true });
    using base = MountTree.clone(smallRoot(folder), { nosuid: true });
    const part = rootfs({ root: base, mounts: [programs, proc, { type: 'mount', source: data, target: '/data' }] });
    const text = await inside(folder, part, "cut -d' ' -f5,6 /proc/self/mountinfo | grep -E '^(/|/data) ' | sort");
    expect(text).toMatch(/^\/ rw,nosuid,(nodev,)?relatime\n\/data ro,relatime\n$/);
  });

  it('proc with its options', async () => {
    const part = rootfs({
      directory: smallRoot(folder),
      mounts: [programs, { ...proc, hidepid: 'invisible', subset: 'pid' }],
    });
    const text = await inside(
      folder,
      part,
      "ls /proc | grep -v '^[0-9]' | tr '\\n' ' '; grep ' /proc ' /proc/self/mountinfo | cut -d' ' -f6,8-",
    );
    expect(text).toMatch(
      /^self thread-self rw,nosuid,nodev,noexec,relatime proc none rw,hidepid=invisible,subset=pid\n$/,
    );
    const bogus = rootfs({
      directory: smallRoot(join(folder, 'again')),
      mounts: [{ ...proc, hidepid: 'bogus' as 'off' }],
    });
    await expect(inside(folder, bogus, '')).rejects.toMatchObject({
      code: 'EINVAL',
      kernelMessage: expect.stringContaining('hidepid'),
    });
  });

  it.skipIf(!v1)('the cgroup hierarchies, from a cgroup namespace that begins there [needs cgroup v1]', async () => {
    const hierarchies = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter((line) => / - cgroup2? /.test(line));
    const part = rootfs({
      directory: smallRoot(folder),
      mounts: [programs, proc, { type: 'cgroup', target: '/sys/fs/cgroup' }],
    });
    const text = await inside(
      folder,
      part,
      `grep -c ' - cgroup' /proc/self/mountinfo; grep ' - cgroup' /proc/self/mountinfo | cut -d' ' -f4,6 | sort -u; cut -d: -f3 /proc/self/cgroup | sort -u
       for f in /sys/fs/cgroup/memory/release_agent /sys/fs/cgroup/pids/cgroup.procs /sys/fs/cgroup/x; do (echo 1 > $f) 2>&- && echo WROTE $f; done; true`,
    );
    expect(text).toBe(`${hierarchies.length}\n/ ro,nosuid,nodev,noexec,relatime\n/\n`);
  });

  it('refuses what a line does not have', async () => {
    const bad: [unknown, RegExp][] = [
      [{ type: 'bind', source: '/usr', target: '/x', size: 1 }, /"size".*belongs to the file system/],
      [{ type: 'bind', source: '/usr', target: '/x', mode: 0o700 }, /"mode"/],
      [{ type: 'tmpfs', target: '/x', sizes: 1 }, /"sizes"/],
      [{ type: 'tmpfs', target: '/x', size: -1 }, /size is no number/],
      [{ type: 'tmpfs', target: '/x', size: '1m' }, /size is no number/],
      [{ type: 'tmpfs', target: '/x', mode: 0o10000 }, /mode is no number/],
      [{ type: 'tmpfs', target: '/x', uid: 2 ** 32 - 1 }, /uid is no number/],
      [{ type: 'ext4', target: '/x' }, /no kind of mount/],
      [{ type: 'tmpfs', target: '/proc/self/attr' }, /under \/proc/],
      [{ type: 'bind', source: '/usr', target: '/proc/sys' }, /under \/proc/],
    ];
    for (const [spec, message] of bad) {
      const error = await Promise.resolve()
        .then(() => rootfs({ directory: '/', mounts: [spec as MountSpec] }).confine(new LaunchProgram()))
        .catch((reason) => reason);
      expect(error).toMatchObject({
        name: 'TypeError',
        code: 'ERR_INVALID_ARG_VALUE',
        message: expect.stringMatching(message),
      });
    }
    const part = rootfs({
      directory: smallRoot(folder),
      mounts: [programs, proc, { type: 'file', target: '/proc/uptime', content: Buffer.from('1 1\n') }],
    });
    expect(await inside(folder, part, 'cat /proc/uptime')).toBe('1 1\n');
  });
});

describe('proc in a user namespace', () => {
  it('is refused with the reason, or replaced on request', () => {
    inOwnNamespace(
      folder,
      `${helpers()}
       const run = (spec, options) => inside(folder, iso.rootfs({ directory: small, mounts: [programs, { type: 'proc', target: '/proc', ...spec }] }), 'ls /proc | grep -c "^[0-9]"; true', { user: true, ...options });
       const refusal = (action) => action.then(() => assert.fail('no error'), (error) => { assert.equal(error.code, 'EPERM'); assert.equal(error.step.phase, 'mount'); return error.hint; });
       assert.match(await refusal(run({}, { flags: 0 })), /pid namespace of its own/);
       iso.mount('cover', '/proc/sys', 'tmpfs');
       assert.match(await refusal(run({})), /covered in part: \\/proc\\/sys/);
       assert.equal(await run({ fallback: 'none' }), '0\\n');
       assert.ok(Number(await run({ fallback: 'bind' })) > 2);
       iso.umount('/proc/sys');
       assert.equal((await run({ fallback: 'none' })) > 0, true);
       assert.match(await run({}), /^[1-9]\\n$/);`,
    );
  });
});

describe('odd roots', () => {
  it('a root that is a mount point, shared, on a read-only host', () => {
    inOwnNamespace(
      folder,
      `${helpers()}
       iso.mount(small, small, null, iso.MS.BIND);
       iso.mount(null, small, null, iso.MS.SHARED);
       const before = fs.readFileSync('/proc/self/mountinfo', 'utf8');
       const recipe = { mounts: [programs, { type: 'tmpfs', target: '/tmp' }, { type: 'proc', target: '/proc' }] };
       const look = "cut -d' ' -f5 /proc/self/mountinfo | tr '\\\\n' ' '; touch /tmp/x && echo fine";
       for (const user of [false, true]) assert.equal(await inside(folder, iso.rootfs({ directory: small, ...recipe }), look, { user }), '/ /usr /tmp /proc fine\\n');
       assert.equal(fs.readFileSync('/proc/self/mountinfo', 'utf8'), before);
       fs.mkdirSync(small + '/proc', { recursive: true });
       iso.mount(null, small, null, iso.MS.REMOUNT | iso.MS.BIND | iso.MS.RDONLY);
       for (const user of [false, true]) assert.equal(await inside(folder, iso.rootfs({ directory: small, readonly: true, ...recipe }), look, { user }), '/ /usr /tmp /proc fine\\n');
       // A target that is missing cannot be made where the host's mount is read-only.
       for (const user of [false, true]) await assert.rejects(inside(folder, iso.rootfs({ directory: small, readonly: true, mounts: [{ type: 'tmpfs', target: '/missing' }] }), '', { user }), { code: 'EROFS', syscall: 'mkdirat' });`,
      { shared: true },
    );
  });

  it('makes targets with the modes that they should have, and leaves the mask as it was', () => {
    inOwnNamespace(
      folder,
      `${helpers()}
       process.umask(0o077);
       const part = iso.rootfs({ directory: small, mounts: [programs, { type: 'directory', target: '/deep/er' }, { type: 'file', target: '/f/ile', content: Buffer.from('x'), mode: 0o666 }] });
       assert.equal(await inside(folder, part, 'stat -c %a /deep /deep/er /f /f/ile; umask', { user: false }), '755\\n755\\n755\\n666\\n0077\\n');
       await assert.rejects(inside(folder, iso.rootfs({ directory: small, mounts: [{ type: 'bind', source: '/usr', target: '/bin/x/y' }, { type: 'mqueue', target: '/etc/passwd/x' }] }), ''));
       assert.equal(process.umask(), 0o077);
       assert.match(fs.readFileSync('/proc/self/status', 'utf8'), /Umask:\\t0077/);`,
    );
  });
});

describe('chroot on request', () => {
  it('enters the root and leaves no proc outside of it whole', () => {
    inOwnNamespace(
      folder,
      `${helpers()}
       const before = fs.readFileSync('/proc/self/mountinfo', 'utf8');
       const recipe = { directory: small, mounts: [programs, { type: 'proc', target: '/proc' }, { type: 'dev', target: '/dev' }], maskedPaths: ['/proc/keys'] };
       // Root of a further user namespace: may it mount a proc in which nothing is masked?
       const script = "cat /proc/keys; cut -d' ' -f5 /proc/self/mountinfo | head -1; unshare -Urmpf mount -t proc proc /tmp 2>&- && echo UNMASKED; ls / | tr '\\\\n' ' '";
       for (const user of [false, true]) {
         for (const enter of ['pivot_root', 'chroot'])
           assert.equal(await inside(folder, iso.rootfs({ ...recipe, enter }), script, { user }), '/\\nbin dev etc lib lib64 proc sbin tmp usr ', enter + user);
       }
       assert.equal(fs.readFileSync('/proc/self/mountinfo', 'utf8'), before);`,
    );
  });

  it.skipIf(!root)(
    'works for a caller in a chroot whose root is no mount point, where pivot_root says so [needs root]',
    () => {
      const home = join(import.meta.dirname, '../../..');
      const out = inOwnNamespace(
        folder,
        `fs.mkdirSync(folder + '/jail'); iso.mount('jail', folder + '/jail', 'tmpfs');
       const jail = folder + '/jail/sub';
       // Shared, so that a mount inside would show outside if it travelled.
       iso.mount(null, folder + '/jail', null, iso.MS.SHARED);
       for (const path of ['/usr', '/proc', '/dev', '/etc', ${JSON.stringify(home)}]) { fs.mkdirSync(jail + path, { recursive: true }); iso.mount(path, jail + path, null, iso.MS.BIND | iso.MS.REC); }
       for (const name of ['bin', 'lib', 'lib64', 'sbin']) fs.symlinkSync('usr/' + name, jail + '/' + name);
       fs.mkdirSync(jail + folder, { recursive: true }); fs.mkdirSync(jail + '/tmp', { recursive: true });
       fs.writeFileSync(jail + '/tmp/x.mts', \`
         import * as iso from ${JSON.stringify(join(import.meta.dirname, 'index.ts'))};
         import * as sys from ${JSON.stringify(join(home, 'packages/sys/src/index.ts'))};
         import { inside, smallRoot, start, programs } from ${JSON.stringify(join(import.meta.dirname, 'testing/container.ts'))};
         import fs from 'node:fs';
         const folder = '/tmp/work'; fs.mkdirSync(folder);
         const small = smallRoot(folder);
         const mounts = [programs, { type: 'proc', target: '/proc' }];
         try { await inside(folder, iso.rootfs({ directory: small, mounts }), ''); } catch (error) { console.log(error.code, error.hint); }
         const part = iso.rootfs({ directory: small, mounts, enter: 'chroot' });
         console.log(await inside(folder, part, 'ls /'));
         const box = await start(folder, part, ['/bin/sleep', '60']);
         try {
           using namespace = sys.Fd.open('/proc/' + box.pid + '/ns/mnt');
           console.log('left:', iso.mountTable({ namespace }).filter((mount) => mount.type === 'proc' || mount.type === 'sysfs').length);
         } catch (error) { console.log('left:', error.code); }
         finally { sys.syscall('pidfd_send_signal', box.pidfd, 9, null, 0); sys.reap(box.pidfd, { block: true }); box.pidfd.close(); }
       \`);
       const before = fs.readFileSync('/proc/self/mountinfo', 'utf8');
       console.log(sh('cd ${home} && chroot ' + jail + ' ' + process.execPath + ' ${fromSources.join(' ')} /tmp/x.mts'));
       assert.equal(fs.readFileSync('/proc/self/mountinfo', 'utf8'), before);`,
      );
      expect(out).toMatch(/^EINVAL the root of this process is no mount point.*chroot/);
      expect(out).toContain('bin\netc\nlib\nlib64\nproc\nsbin\ntmp\nusr\n');
      // The container's own, of all that the namespace holds inside and outside of the chroot, where the kernel can list that.
      expect(out).toMatch(/left: (1|EUNSUPPORTED)\n/);
    },
  );

  it('has its steps in the program', () => {
    const program = new LaunchProgram();
    void rootfs({ directory: '/', enter: 'chroot' }).confine(program);
    expect(program.explain()).toMatch(
      /umount2\("\/sys", 2\)[\s\S]*umount2\("\/proc", 2\)[\s\S]*chroot\("\."\)[\s\S]*chdir\("\/"\)/,
    );
    expect(program.explain()).not.toContain('pivot_root');
    expect(program.unshared & CLONE.NEWNS).not.toBe(0);
  });
});

/** What scripts in a namespace of their own start containers by. */
function helpers(): string {
  return `const { inside, start, programs, smallRoot } = await import(${JSON.stringify(join(import.meta.dirname, 'testing/container.ts'))});
          const small = smallRoot(folder);`;
}
