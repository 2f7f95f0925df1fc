import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AT, KernelError, type Part } from '@iso/sys';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { inside } from '../../../test/confined.js';
import { inNode } from './fixture.js';
import { namespaces, UserNamespace } from './index.js';

const root = process.getuid?.() === 0;
const has = (program: string) => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;
let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
  chmodSync(folder, 0o755);
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A shell that puts files of ours over the machine's, in a mount table of its own. */
const withFiles = (subuid: string, subgid: string) => {
  writeFileSync(join(folder, 'subuid'), subuid);
  writeFileSync(join(folder, 'subgid'), subgid);
  const binds = ['subuid', 'subgid'].map((name) => `touch /etc/${name}; mount --bind ${folder}/${name} /etc/${name}`);
  return `exec unshare -m sh -c '${binds.join('; ')}; exec "$0" "$@"' "$0" "$@"`;
};
/** Becomes a plain user who has a passwd entry: newuidmap(1) looks there. */
const becomeNobody = `sys.syscall('getpid'); process.setgroups([65534]); process.setgid(65534); process.setuid(65534);
  // A change of ids makes a process undumpable, and its children's files root's: a plain user's Node is not.
  sys.syscall('prctl', 4, 1, 0, 0, 0);
  const { execFileSync } = await import('node:child_process');
  const show = (user, ...more) => execFileSync('nsenter', ['--user=/proc/' + process.pid + '/fd/' + user.fd.number, ...more,
    'sh', '-c', 'cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; id -u; id -G'], { encoding: 'utf8' }).trim().split('\\n').map((line) => line.trim().split(/\\s+/).join(' '));`;

describe.skipIf(!root || !has('newuidmap'))('ranges for a plain user [needs root, newuidmap]', () => {
  it('auto: its own id is root, what /etc/subuid gives follows', () => {
    const out = inNode(
      `${becomeNobody}
       const user = ns.UserNamespace.create('auto');
       console.log(JSON.stringify([user.maps.setgroups, show(user, '-S', '5', '-G', '7')])); user.close();`,
      withFiles('other:1:2\nnobody:200000:1000\nnobody:300000:10\n', '65534:400000:20\nnobody:400000:20\n'),
    );
    expect(JSON.parse(out)).toEqual([
      'allow',
      ['0 65534 1', '1 200000 1000', '1001 300000 10', '0 65534 1', '1 400000 20', 'allow', '5', '7'],
    ]);
  });

  it('ranges of its own choice, and none that are not its', () => {
    const out = inNode(
      `${becomeNobody}
       const ids = (outside) => [{ inside: 0, outside, count: 10 }];
       const user = ns.UserNamespace.create({ uidMap: ids(200000), gidMap: ids(200000) });
       console.log(JSON.stringify(show(user, '-S', '0', '-G', '0'))); user.close();
       for (const maps of [{ uidMap: ids(0), gidMap: ids(0) }, { uidMap: ids(200995), gidMap: ids(200000) }])
         try { ns.UserNamespace.create(maps); console.log('none'); } catch (error) { console.log(error.code, error.syscall, error.hint); }`,
      withFiles('nobody:200000:1000\n', 'nobody:200000:1000\n'),
    );
    const [map = '', ...refusals] = out.trim().split('\n');
    expect(JSON.parse(map)).toEqual(['0 200000 10', '0 200000 10', 'allow', '0', '0']);
    expect(refusals).toHaveLength(2);
    for (const refusal of refusals) expect(refusal).toMatch(/^EPERM newuidmap .*\/etc\/subuid/);
  });

  it('auto without an entry says who can give one', () => {
    const out = inNode(
      `${becomeNobody} try { ns.UserNamespace.create('auto'); } catch (error) { console.log(error.code, error.message); }`,
      withFiles('other:1:2\n', ''),
    );
    expect(out).toMatch(/EPERM.*\/etc\/subuid has no range.*administrator/);
  });
});

describe('limits of user namespaces', () => {
  it.skipIf(!has('unshare') || spawnSync('unshare', ['-Ur', 'true']).status !== 0)(
    'max_user_namespaces: ENOSPC with a hint [needs user namespaces]',
    () => {
      const out = inNode(
        `try { ns.UserNamespace.create('self'); } catch (error) { console.log(error.code, error.syscall, error.hint); }`,
        `exec unshare -Ur sh -c 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$0" "$@"' "$0" "$@"`,
      );
      expect(out).toMatch(/^ENOSPC clone3 .*max_user_namespaces/);
    },
  );

  it.skipIf(!root)('mapping 0 without CAP_SETFCAP says what is missing [needs root]', () => {
    const out = inNode(
      `try { ns.UserNamespace.create('root'); console.log('none'); } catch (error) { console.log(error.code, error.hint); }`,
      'exec setpriv --bounding-set=-setfcap --inh-caps=-setfcap "$0" "$@"',
    );
    expect(out).toMatch(/^EPERM .*CAP_SETFCAP/);
  });

  it('setgroups: as asked for, denied to a plain user by default', async () => {
    for (const setgroups of root ? (['allow', 'deny', undefined] as const) : (['deny', undefined] as const)) {
      const ids = (id = 0) => [{ inside: 0, outside: id, count: 1 }];
      const user = {
        uidMap: ids(process.getuid?.()),
        gidMap: ids(process.getgid?.()),
        ...(setgroups ? { setgroups } : {}),
      };
      const expected = setgroups ?? (root ? 'allow' : 'deny');
      expect(await inside(namespaces({ user }), 'cat /proc/self/setgroups')).toBe(`${expected}\n`);
    }
  });

  it.each(['auto ', 'nobody', 'net', 7, null])('refuses %s as maps', (mapping) => {
    expect(() => UserNamespace.create(mapping as never)).toThrow(TypeError);
  });
});

it.skipIf(!root)(
  'is the map of an id-mapped mount [needs root, a temporary directory that can be id-mapped]',
  async (context) => {
    writeFileSync(join(folder, 'file'), '');
    execFileSync('chown', ['1000:2000', join(folder, 'file')]);
    using user = UserNamespace.create({
      uidMap: [{ inside: 1000, outside: 71_000, count: 1 }],
      gidMap: [{ inside: 2000, outside: 72_000, count: 1 }],
    });
    const MOUNT_ATTR_IDMAP = 0x100000;
    const mapped: Part = {
      confine(program) {
        program.unshare(0x20000);
        program.step('mount', 'mount', ['none', '/', null, 0x44000, null]);
        const tree = program.step('mount', 'open_tree', [AT.FDCWD, folder, 1]);
        const attributes = Buffer.alloc(32);
        attributes.writeUInt32LE(MOUNT_ATTR_IDMAP, 0);
        attributes.writeUInt32LE(user.fd.number, 24);
        program.step('mount', 'mount_setattr', [tree, '', AT.EMPTY_PATH, attributes, attributes.length]);
        program.step('mount', 'move_mount', [tree, '', AT.FDCWD, '/mnt', 4]);
      },
    };
    const owners = await inside(mapped, `stat -c '%u %g' /mnt/file ${folder}/file`).catch((error: unknown) => {
      // tmpfs before Linux 6.3, 9p: that is for the file system to say.
      if (KernelError.is(error, 'EINVAL') && error.syscall === 'mount_setattr') return context.skip();
      throw error;
    });
    expect(owners).toBe('71000 72000\n1000 2000\n');
  },
);
