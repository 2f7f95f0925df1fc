import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RecordingKernel } from '@iso/sys/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fromSources } from '../../../test/typescript.js';
import { fsopen, MountTree, mount, openTree } from './index.js';
import { inOwnNamespace } from './testing/own-namespace.js';

const root = process.getuid?.() === 0;
let folder = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
  mkdirSync(join(folder, 'at'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('a mount held by a descriptor', () => {
  it('is created with parameters, attached, changed, reconfigured, moved and taken away', () => {
    inOwnNamespace(
      folder,
      `const at = folder + '/at';
       fs.mkdirSync(folder + '/other');
       const find = (path) => { try { return sh('findmnt -J -o TARGET,FSTYPE,SOURCE,OPTIONS,PROPAGATION ' + path); } catch { return undefined; } };
       const tree = iso.MountTree.create('tmpfs', { source: 'memory', parameters: { size: '64k', mode: '711', nr_inodes: '100' }, nosuid: true, atime: 'noatime' });
       assert.equal(find(at), undefined);
       fs.writeFileSync('/proc/self/fd/' + tree.fd.number + '/before', 'written before it was attached');
       assert.equal(tree.attach(at), tree);
       assert.match(find(at), /"memory"/);
       assert.match(find(at), /rw,nosuid,noatime,size=64k,nr_inodes=100,mode=711/);
       assert.equal(sh('stat -c %a ' + at), '711\\n');
       assert.equal(fs.readFileSync(at + '/before', 'utf8'), 'written before it was attached');
       tree.setattr({ readonly: true, nodev: true, noexec: true, nosymfollow: true, nodiratime: true, clear: ['nosuid'], atime: 'strictatime', propagation: 'shared' });
       assert.match(find(at), /ro,nodev,noexec,nodiratime,nosymfollow,size[^]*"shared"/);
       assert.throws(() => fs.writeFileSync(at + '/x', ''), { code: 'EROFS' });
       tree.setattr({ clear: ['readonly'], propagation: 'private' }).reconfigure({ size: '128k' });
       assert.match(find(at), /rw,[^]*size=128k[^]*"private"/);
       assert.throws(() => tree.reconfigure({ size: 'none' }), (error) => /Bad value|Invalid|size/.test(error.kernelMessage) && error.code === 'EINVAL');
       tree.attach(folder + '/other');
       assert.equal(find(at), undefined);
       assert.match(find(folder + '/other'), /memory/);
       tree.detach();
       assert.equal(find(folder + '/other'), undefined);
       assert.throws(() => tree.detach(), { code: 'EINVAL', syscall: 'umount2' });
       tree.close();
       tree.close();
       const opened = iso.MountTree.create('tmpfs').attach(at);
       opened.close();
       using again = iso.MountTree.open(at);
       again.setattr({ readonly: true });
       assert.match(find(at), /ro,/);
       iso.umount(at, iso.MNT.DETACH);
       assert.equal(find(at), undefined);
       fs.rmSync(folder + '/other', { recursive: true });`,
    );
  });

  it('is cloned alone or with what lies below, and changes all of it', () => {
    inOwnNamespace(
      folder,
      `const [from, at] = [folder + '/from', folder + '/at'];
       fs.mkdirSync(from);
       iso.mount('outer', from, 'tmpfs');
       fs.mkdirSync(from + '/inner');
       iso.mount('inner', from + '/inner', 'tmpfs', iso.MS.NODEV, 'size=4k');
       iso.mount(null, from, null, iso.MS.SHARED | iso.MS.REC);
       iso.MountTree.clone(from, { readonly: true }).attach(at).close();
       assert.equal(sh('findmnt -rno SOURCE,OPTIONS,PROPAGATION -R ' + at).split('\\n').length, 2);
       assert.throws(() => fs.mkdirSync(at + '/x'), { code: 'EROFS' });
       fs.mkdirSync(from + '/still-writable');
       iso.umount(at);
       iso.MountTree.clone(from, { readonly: true, recursive: true }).attach(at).close();
       const lines = sh('findmnt -rno SOURCE,VFS-OPTIONS,PROPAGATION -R ' + at).trim().split('\\n');
       assert.deepEqual(lines, ['outer ro,relatime private', 'inner ro,nodev,relatime private']);
       assert.throws(() => fs.mkdirSync(at + '/inner/x'), { code: 'EROFS' });
       iso.umount(at, iso.MNT.DETACH);
       // What is mounted on a private clone of a shared mount does not appear on that.
       iso.MountTree.clone(from, { recursive: true }).attach(at).close();
       iso.MountTree.create('tmpfs').attach(at + '/inner').close();
       assert.equal(sh('findmnt -rno SOURCE -R ' + from), 'outer\\ninner\\n');
       iso.umount(at, iso.MNT.DETACH);
       iso.MountTree.clone(from, { propagation: 'shared' }).attach(at).close();
       iso.MountTree.create('tmpfs', { source: 'peer' }).attach(at + '/inner').close();
       assert.match(sh('findmnt -rno SOURCE -R ' + from), /peer/);
       // Beneath a mount: only seen when that is gone.
       iso.umount(at, iso.MNT.DETACH);
       iso.MountTree.create('tmpfs', { source: 'top' }).attach(at).close();
       fs.writeFileSync(at + '/on-top', '');
       using lower = iso.MountTree.create('tmpfs', { source: 'lower' });
       let beneath = true;
       // Kernels before 6.5 do not know the flag.
       try { lower.attach(at, { beneath: true }); } catch (error) { assert.equal(error.code, 'EINVAL'); assert.match(sh('uname -r'), /^(5|6\\.[0-4])\\./); beneath = false; }
       if (beneath) {
         assert.equal(iso.mountTable().filter((mount) => mount.target === at).map((mount) => mount.source).sort().join(), 'lower,top');
         assert.equal(sh('ls ' + at), 'on-top\\n');
         iso.umount(at);
         assert.equal(sh('findmnt -no SOURCE ' + at).trim(), 'lower');
       }
       iso.mount(null, at, null, iso.MS.UNBINDABLE);
       assert.throws(() => iso.MountTree.clone(at), { code: 'EINVAL', hint: /unbindable/ });`,
    );
  });

  it('is attached inside a root, whatever its links say', () => {
    inOwnNamespace(
      folder,
      `fs.mkdirSync(folder + '/root/real', { recursive: true });
       fs.mkdirSync(folder + '/outside');
       fs.symlinkSync('../../../..' + folder + '/outside', folder + '/root/up');
       fs.symlinkSync(folder + '/outside', folder + '/root/absolute');
       fs.symlinkSync('/real', folder + '/root/link');
       fs.symlinkSync('/proc/self/fd/1', folder + '/root/magic');
       fs.mkdirSync(folder + '/root/proc');
       iso.MountTree.clone('/proc', { recursive: true }).attach(folder + '/root/proc').close();
       using root = sys.Fd.open(folder + '/root', { directory: true, path: true });
       for (const path of ['up', 'absolute', '../outside', '../../../../..' + folder + '/outside']) {
         using tree = iso.MountTree.create('tmpfs');
         assert.throws(() => tree.attach({ root, path }), { code: 'ENOENT', syscall: 'openat2' });
       }
       using other = iso.MountTree.create('tmpfs');
       assert.throws(() => other.attach({ root, path: 'proc/self/root' }), { code: 'ELOOP' });
       assert.throws(() => other.attach({ root, path: 'proc/self/cwd' }), { code: 'ELOOP' });
       other.attach({ root, path: '/link' });
       assert.deepEqual(iso.mountTable().filter((mount) => mount.type === 'tmpfs' && mount.target.startsWith(folder)).map((mount) => mount.target), [folder + '/root/real']);
       using file = sys.Fd.open(folder + '/root/real', { path: true });
       using another = iso.MountTree.create('tmpfs', { source: 'by-descriptor' });
       another.attach(file);
       assert.equal(sh('findmnt -no SOURCE ' + folder + '/root/real | tail -1').trim(), 'by-descriptor');
       assert.deepEqual(fs.readdirSync(folder + '/outside'), []);`,
    );
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(folder);
  });

  it('fails with the kernel’s own words', () => {
    inOwnNamespace(
      folder,
      `const failed = (action) => { try { action(); } catch (error) { return error; } assert.fail('no error'); };
       const bogus = failed(() => iso.MountTree.create('tmpfs', { parameters: { bogus: '1' } }));
       assert.equal(bogus.code, 'EINVAL');
       assert.match(bogus.kernelMessage, /tmpfs: Unknown parameter 'bogus'/);
       assert.match(bogus.message, /Unknown parameter/);
       assert.match(failed(() => iso.MountTree.create('nosuchfs')).hint, /no file system nosuchfs/);
       assert.equal(failed(() => iso.MountTree.create('nosuchfs')).code, 'ENODEV');
       assert.equal(failed(() => iso.mount('x', folder + '/at', 'nosuchfs')).code, 'ENODEV');
       assert.equal(failed(() => iso.MountTree.clone(folder + '/missing')).path, folder + '/missing');
       assert.equal(failed(() => iso.umount(folder + '/at')).code, 'EINVAL');
       assert.equal(failed(() => iso.mount('x', folder + '/a\\0t', 'tmpfs')).code, 'ERR_INVALID_ARG_VALUE');
       fs.writeFileSync(folder + '/file', '');
       using tree = iso.MountTree.create('tmpfs');
       assert.match(failed(() => tree.attach(folder + '/file')).code, /^(ENOTDIR|EINVAL)$/);
       iso.mount('busy', folder + '/at', 'tmpfs');
       const held = fs.openSync(folder + '/at', 'r');
       assert.match(failed(() => iso.umount(folder + '/at')).hint, /MNT.DETACH/);
       fs.closeSync(held);
       iso.umount(folder + '/at');`,
    );
  });

  it('keeps the flags that a more privileged mount namespace has set', () => {
    // A tmpfs with flags, then a further user and mount namespace, to which they are locked.
    inOwnNamespace(
      folder,
      `iso.MountTree.create('tmpfs', { nosuid: true, nodev: true, readonly: true }).attach(folder + '/at').close();
       fs.writeFileSync(folder + '/inner.mts', \`import { MountTree } from \${JSON.stringify(${JSON.stringify(join(import.meta.dirname, 'index.ts'))})};
         using tree = MountTree.clone(\${JSON.stringify(folder + '/at')});
         for (const name of ['nosuid', 'nodev', 'readonly']) {
           try { tree.setattr({ clear: [name] }); console.log('cleared', name); }
           catch (error) { console.log(name, error.code, error.hint); }
         }
         tree.setattr({ noexec: true, clear: ['noexec'] });\`);
       const out = sh('unshare -Urm ' + process.execPath + ' ${fromSources.join(' ')} ' + folder + '/inner.mts');
       assert.match(out, /nosuid EPERM .*locked[^]*nodev EPERM .*locked[^]*readonly EPERM .*locked/);`,
    );
  });

  it.skipIf(!root)('maps ids [needs root]', () => {
    const out = inOwnNamespace(
      folder,
      `using user = (() => {
         const parked = sys.park(sys.CLONE.NEWUSER);
         try {
           fs.writeFileSync('/proc/' + parked.pid + '/uid_map', '0 100000 65536');
           fs.writeFileSync('/proc/' + parked.pid + '/gid_map', '0 100000 65536');
           return sys.Fd.open('/proc/' + parked.pid + '/ns/user');
         } finally { parked.end(); }
       })();
       iso.mount('x', folder + '/at', 'tmpfs');
       fs.mkdirSync(folder + '/mapped');
       fs.writeFileSync(folder + '/at/f', '');
       assert.throws(() => iso.MountTree.clone('/proc', { idmap: user }), { code: 'EINVAL', hint: /supports no id-mapped/ });
       // A memory file system takes maps since Linux 6.3.
       if (/^(5|6\\.[0-2])\\./.test(sh('uname -r'))) {
         assert.throws(() => iso.MountTree.clone(folder + '/at', { idmap: user }), { code: 'EINVAL' });
         console.log('done');
         process.exit();
       }
       const tree = iso.MountTree.clone(folder + '/at', { idmap: user });
       tree.attach(folder + '/mapped');
       assert.match(sh('findmnt -no VFS-OPTIONS ' + folder + '/mapped'), /idmapped/);
       assert.equal(sh('stat -c %u:%g ' + folder + '/mapped/f'), '100000:100000\\n');
       const { uniqueId } = iso.mountTable().find((mount) => mount.target === folder + '/mapped');
       if (uniqueId && iso.statmount(uniqueId).mask & iso.STATMOUNT.MNT_UIDMAP) assert.deepEqual(iso.statmount(uniqueId).mntUidmap, ['0 100000 65536']);
       else assert.match(sh('uname -r'), /^(5|6\\.([0-9]|1[0-4]))\\./);
       assert.throws(() => tree.setattr({ idmap: user }), { hint: /id-mapped/ });
       // The map of an id-mapped mount can be changed in its clone, where the kernel has open_tree_attr.
       let again;
       try { again = iso.openTreeAttr(null, folder + '/mapped', { idmap: user, set: iso.MOUNT_ATTR.RDONLY }); }
       catch (error) { assert.equal(error.code, 'EUNSUPPORTED'); }
       if (again) { iso.moveMount(again, null, folder + '/at'); assert.match(sh('findmnt -no VFS-OPTIONS ' + folder + '/at | tail -1'), /^ro,.*idmapped/); again.close(); }
       tree.close();
       console.log('done');`,
    );
    expect(out).toBe('done\n');
  });
});

describe('without the privilege or the kernel', () => {
  it.skipIf(root)('says what is missing [needs a plain user]', () => {
    for (const action of [
      () => MountTree.create('tmpfs'),
      () => MountTree.clone('/usr'),
      () => mount('x', folder, 'tmpfs'),
    ]) {
      expect(action).toThrow(expect.objectContaining({ code: 'EPERM', hint: expect.stringMatching(/CAP_SYS_ADMIN/) }));
    }
  });

  it('names the call that the kernel lacks', () => {
    const kernel = new RecordingKernel().fail('fsopen', 'ENOSYS').fail('open_tree', 'ENOSYS');
    kernel.run(() => {
      expect(() => fsopen('tmpfs')).toThrow(
        expect.objectContaining({ code: 'EUNSUPPORTED', feature: 'fsopen', since: '5.2' }),
      );
      expect(() => openTree(null, '/usr', { clone: true })).toThrow(/open_tree is not supported/);
    });
  });

  it('closes what it had when a later call fails', () => {
    // Descriptors far above those that are open: what owns them may close them for real.
    const kernel = new RecordingKernel()
      .answer('open_tree', 0x7ffffff0)
      .answer('fsopen', 0x7ffffff1)
      .fail('mount_setattr', 'EPERM')
      .fail('fsmount', 'EPERM')
      .answer('read', -61);
    kernel.run(() => {
      expect(() => MountTree.clone('/usr', { readonly: true })).toThrow(/mount_setattr.*EPERM/);
      expect(() => MountTree.create('proc')).toThrow(/fsmount.*EPERM/);
    });
    expect(kernel.calls.filter((call) => call.name === 'close').map((call) => call.args[0])).toEqual([
      0x7ffffff0, 0x7ffffff1,
    ]);
  });
});
