import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RecordingKernel } from '@iso/sys/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { mountTable, parseMountInfo } from './index.js';
import { inOwnNamespace } from './testing/own-namespace.js';

const root = process.getuid?.() === 0;
let folder = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
  mkdirSync(join(folder, 'at'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Mounts of every kind that a table can show, and what compares the two ways and findmnt. */
const prepare = `
  const at = folder + '/at';
  const make = (name, ...args) => { fs.mkdirSync(at + '/' + name); iso.mount(args[0], at + '/' + name, 'tmpfs', args[1] ?? 0, args[2] ?? null); return at + '/' + name; };
  iso.mount('base', at, 'tmpfs');
  const odd = ['with space', 'tab\\there', 'new\\nline', 'back\\\\slash', 'octal\\\\040', 'ünïcode', ' ', '#hash', 'comma,dash - ext4'];
  for (const name of odd) make(name, 'source of ' + name);
  make('empty-source', '');
  make('flags', 'x', iso.MS.NOSUID | iso.MS.NODEV | iso.MS.NOEXEC | iso.MS.NOATIME | iso.MS.NODIRATIME | iso.MS.NOSYMFOLLOW | iso.MS.RDONLY, 'size=64k,mode=700');
  make('sync', 'x', iso.MS.SYNCHRONOUS | iso.MS.DIRSYNC | iso.MS.LAZYTIME | iso.MS.STRICTATIME);
  const shared = make('shared', 'x');
  iso.mount(null, shared, null, iso.MS.SHARED);
  fs.mkdirSync(at + '/slave'); iso.mount(shared, at + '/slave', null, iso.MS.BIND);
  iso.mount(null, at + '/slave', null, iso.MS.SLAVE);
  fs.mkdirSync(at + '/both'); iso.mount(at + '/slave', at + '/both', null, iso.MS.BIND);
  iso.mount(null, at + '/both', null, iso.MS.SHARED);
  const unbindable = make('unbindable', 'x');
  iso.mount(null, unbindable, null, iso.MS.UNBINDABLE);
  // One over another, and one that is hidden below.
  const over = make('over', 'first'); fs.mkdirSync(over + '/hidden'); iso.mount('hidden', over + '/hidden', 'tmpfs'); iso.mount('second', over, 'tmpfs');
  fs.mkdirSync(shared + '/sub/dir', { recursive: true }); fs.mkdirSync(at + '/sub'); iso.mount(shared + '/sub/dir', at + '/sub', null, iso.MS.BIND);
  fs.writeFileSync(at + '/file', ''); iso.mount('/etc/passwd', at + '/file', null, iso.MS.BIND);
  const plain = (table) => table.map(({ uniqueId, ...mount }) => mount);
  const mountinfo = () => iso.parseMountInfo(fs.readFileSync('/proc/self/mountinfo', 'utf8'));`;

describe('the mount table', () => {
  it('is the same by statmount and by mountinfo, and as findmnt sees it', () => {
    const out = inOwnNamespace(
      folder,
      `${prepare}
       const table = iso.mountTable();
       assert.deepEqual(plain(table), mountinfo());
       assert.deepEqual(plain(table), plain(iso.mountTable({ pid: process.pid })));
       for (const name of odd) assert.equal(table.filter((mount) => mount.target === at + '/' + name && mount.source === 'source of ' + name).length, 1, name);
       const flat = (list) => list.flatMap((entry) => [entry, ...flat(entry.children ?? [])]);
       const found = flat(JSON.parse(sh('findmnt -J -o ID,PARENT,TARGET,FSTYPE,MAJ:MIN,VFS-OPTIONS,OPT-FIELDS')).filesystems);
       assert.equal(found.length, table.length);
       for (const entry of found) {
         const mount = table.find((one) => one.id === entry.id);
         // findmnt writes what is not printable as \\\\xNN.
         const target = entry.target.replace(/\\\\x([0-9a-f]{2})/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)));
         assert.deepEqual(
           [mount.parentId, mount.target, mount.type, mount.device, mount.options.join(), mount.propagation.join(' ')],
           [entry.parent, target, entry.fstype, entry['maj:min'].trim(), entry['vfs-options'], entry['opt-fields'] ?? '']);
       }
       if (table[0].uniqueId !== undefined) {
         const known = iso.listmount();
         assert.deepEqual(table.map((mount) => mount.uniqueId), known);
         assert.equal(new Set(known).size, known.length);
         const id = table.find((mount) => mount.source === 'first').uniqueId;
         assert.deepEqual(iso.listmount({ mount: id }).length, 2);
         const stat = iso.statmount(id, { mask: iso.STATMOUNT.MNT_POINT });
         assert.equal(stat.mntPoint, at + '/over');
         assert.throws(() => iso.statmount(0x7fffffffffffn), { code: 'ENOENT' });
         iso.umount(at + '/over');
         iso.umount(at + '/over', iso.MNT.DETACH);
         assert.throws(() => iso.statmount(id), { code: 'ENOENT' });
       }
       console.log(table.length > 30);`,
    );
    expect(out).toBe('true\n');
  });

  it('shows 1,200 mounts', () => {
    inOwnNamespace(
      folder,
      `const at = folder + '/at';
       iso.mount('base', at, 'tmpfs');
       for (let i = 0; i < 1200; i++) { fs.mkdirSync(at + '/' + i); iso.mount('many', at + '/' + i, 'tmpfs'); }
       const table = iso.mountTable();
       assert.equal(table.filter((mount) => mount.source === 'many').length, 1200);
       assert.equal(sh('findmnt -rno ID -t tmpfs -S many | wc -l').trim(), '1200');
       assert.deepEqual(table.map(({ uniqueId, ...mount }) => mount), iso.mountTable({ pid: process.pid }));`,
    );
  });

  it('is read from mountinfo where the kernel has no statmount, or one without sources', () => {
    const want = parseMountInfo(readFileSync('/proc/self/mountinfo', 'utf8'));
    const lacking = new RecordingKernel().fail('listmount', 'ENOSYS');
    expect(lacking.run(() => mountTable())).toEqual(want);
    const early = new RecordingKernel().answer('listmount', (args) => {
      (args[1] as Buffer).writeBigUInt64LE(2147483650n, 0);
      return 1;
    });
    expect(early.run(() => mountTable())).toEqual(want);
    expect(early.calls.map((call) => call.name)).toEqual(['listmount', 'statmount']);
  });

  it('asks again with more room for long options, and lists on behind a full page', () => {
    let asked = 0;
    const kernel = new RecordingKernel()
      .answer('statmount', (args) => (Number(args[2]) < 20_000 ? -75 : 0))
      .answer('listmount', (args) => {
        asked++;
        const page = args[1] as Buffer;
        for (let i = 0; i < 512; i++) page.writeBigUInt64LE(BigInt(asked * 1000 + i), 8 * i);
        return asked < 3 ? 512 : 7;
      });
    kernel.run(() => expect(mountTable().length).toBeGreaterThan(0));
    const lists = kernel.calls.filter((call) => call.name === 'listmount');
    // The last id that was seen is the cursor.
    expect(lists.map((call) => Buffer.from(call.args[0] as Uint8Array).readBigUInt64LE(16))).toEqual([
      0n,
      1511n,
      2511n,
    ]);
    expect(kernel.calls.find((call) => call.name === 'statmount')?.result).toBe(-75);
  });
});

describe('of another mount namespace', () => {
  it('is seen by its descriptor, with the privilege', () => {
    const out = inOwnNamespace(
      folder,
      `iso.mount('base', folder + '/at', 'tmpfs');
       // In it something is mounted that this one does not have.
       const { spawn } = await import('node:child_process');
       const child = spawn('unshare', ['-m', 'sh', '-c', 'mount -t tmpfs theirs ' + folder + '/at; echo; exec sleep 60']);
       await new Promise((resolve) => child.stdout.once('data', resolve));
       try {
         using namespace = sys.Fd.open('/proc/' + child.pid + '/ns/mnt');
         let table;
         try { table = iso.mountTable({ namespace }); }
         catch (error) { assert.equal(error.code, 'EUNSUPPORTED'); }
         if (table) {
           assert.deepEqual(table.map(({ uniqueId, ...mount }) => mount), iso.mountTable({ pid: child.pid }));
           assert.ok(table.some((mount) => mount.source === 'theirs'));
         }
         assert.ok(!iso.mountTable().some((mount) => mount.source === 'theirs'));
       } finally { child.kill('SIGKILL'); }
       using none = sys.Fd.open('/proc/self/ns/net');
       assert.throws(() => iso.mountTable({ namespace: none }), { code: /^(ENOTTY|EINVAL)$/ });
       console.log('done');`,
    );
    expect(out).toBe('done\n');
  });

  it.skipIf(root)('is not shown without it [needs a plain user]', () => {
    const own = inOwnNamespace(
      folder,
      `const { spawnSync } = await import('node:child_process');
       try {
         using namespace = sys.Fd.open('/proc/' + process.ppid + '/ns/mnt');
         iso.mountTable({ namespace });
         console.log('shown');
       } catch (error) { console.log(error.code); }`,
    );
    expect(own).toMatch(/^(EACCES|EPERM|ENOENT|EUNSUPPORTED)\n$/);
  });
});

describe('a watched table', () => {
  it('tells of mounts, unmounts and changes, and ends by a signal', () => {
    const out = inOwnNamespace(
      folder,
      `const at = folder + '/at';
       const stop = new AbortController();
       const seen = [];
       const watching = (async () => {
         for await (const { added, removed, changed, table } of iso.watchMounts({ signal: stop.signal })) {
           seen.push(...added.map((mount) => 'added ' + mount.source), ...removed.map((mount) => 'removed ' + mount.source), ...changed.map((mount) => 'changed ' + mount.target.replace(folder, '')));
           assert.equal(table.length, iso.mountTable().length);
           wake();
         }
       })();
       let wake;
       const next = (action) => new Promise((resolve) => { wake = resolve; action(); });
       await new Promise((resolve) => setImmediate(resolve));
       await next(() => iso.mount('one', at, 'tmpfs'));
       await next(() => { fs.mkdirSync(at + '/two'); iso.mount('two', at + '/two', 'tmpfs'); });
       await next(() => { using tree = iso.MountTree.open(at + '/two'); tree.setattr({ nodev: true }); });
       await next(() => { fs.mkdirSync(at + '/three'); using tree = iso.MountTree.open(at + '/two'); tree.attach(at + '/three'); });
       // By another process of the same namespace.
       await next(() => sh('umount ' + at + '/three'));
       await next(() => iso.umount(at));
       stop.abort(new Error('enough'));
       await assert.rejects(watching, /enough/);
       console.log(seen.join('; '));
       // Leaving the loop ends it too: nothing keeps this process alive.
       const loop = iso.watchMounts();
       const first = loop.next();
       iso.mount('last', at, 'tmpfs');
       assert.equal((await first).value.added[0].source, 'last');
       await loop.return();
       await assert.rejects(iso.watchMounts({ signal: AbortSignal.abort(new Error('before')) }).next(), /before/);
       await assert.rejects(iso.watchMounts({ pid: 0x3fffff }).next(), { code: 'ENOENT' });`,
    );
    expect(out).toMatch(/^added one; added two; changed \/at\/two; changed \/at\/three; removed two; removed one\n$/);
  });
});
