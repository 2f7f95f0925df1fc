import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Fd, KernelError, type Launched, reap, syscall } from '@iso/sys';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fromSources } from '../../../test/typescript.js';
import { type LiveSpec, MountTree, mountInto, mountTable, rootfs, unmountFrom } from './index.js';
import { programs, smallRoot, start, userNamespace } from './testing/container.js';

const root = process.getuid?.() === 0;
let folder = '';
let outside = '';
let before = '';
let box: Launched | undefined;
let mutator: ChildProcess | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
  outside = join(folder, 'outside');
  mkdirSync(outside);
  before = readFileSync('/proc/self/mountinfo', 'utf8');
});
afterEach(async () => {
  if (mutator) {
    const ended = new Promise((resolve) => mutator?.once('close', resolve));
    mutator.kill('SIGKILL');
    await ended;
    mutator = undefined;
  }
  end();
  const left = readdirSync(outside);
  rmSync(folder, { recursive: true, force: true });
  expect(left).toEqual([]);
  expect(readFileSync('/proc/self/mountinfo', 'utf8')).toBe(before);
});

function end(): void {
  if (!box) return;
  syscall('pidfd_send_signal', box.pidfd, 9, null, 0);
  reap(box.pidfd, { block: true });
  box.pidfd.close();
  box = undefined;
}

/** A process that stands still on a root of its own. */
async function running(options: { user?: boolean; script?: string } = {}): Promise<Launched> {
  const path = smallRoot(folder);
  mkdirSync(join(path, 'mnt'));
  symlinkSync(`../../../../../../../..${outside}`, join(path, 'hostile'));
  const part = rootfs({
    directory: path,
    mounts: [programs, { type: 'proc', target: '/proc' }],
    maskedPaths: ['/proc/version'],
  });
  const command = ['/bin/sh', '-c', `${options.script ?? ''} echo ready; exec sleep 60`];
  box = await start(folder, part, command, options.user === undefined ? {} : { user: options.user });
  await until(() => readFileSync(join(folder, 'out'), 'utf8').endsWith('ready\n'));
  return box;
}

async function until(test: () => boolean): Promise<void> {
  for (let i = 0; i < 1500 && !test(); i++) await new Promise((resolve) => setTimeout(resolve, 20));
  expect(test()).toBe(true);
}

const seen = (pid: number, target: string) => mountTable({ pid }).filter((mount) => mount.target === target);
const enter = (pid: number, script: string) => [
  ...['-t', String(pid), '-m', '-r', ...(root ? [] : ['-U', '--preserve-credentials'])],
  ...['/bin/sh', '-c', script],
];
/** What a shell in the process's namespaces says. */
const within = (pid: number, script: string) => spawnSync('nsenter', enter(pid, script), { encoding: 'utf8' });

/** Magic numbers of ext4, xfs and btrfs. */
const MAPPABLE = [0xef53, 0x58465342, 0x9123683e];

/** As root without and with a user namespace; a plain user has but the latter. */
describe.each(root ? [{ user: false }, { user: true }] : [{ user: true }])(
  'a running process, user namespace: $user',
  ({ user }) => {
    it('gets binds, files, devices and memory, and loses them again', async () => {
      const { pid, pidfd } = await running({ user });
      const descriptors = readdirSync('/proc/self/fd').length;
      const data = join(folder, 'data');
      mkdirSync(data);
      writeFileSync(join(data, 'file'), 'from the host\n');
      writeFileSync(join(folder, 'note'), 'a file\n');
      mountInto(pidfd, { type: 'bind', source: data, target: '/new/data', readonly: true });
      mountInto(pid, { type: 'bind', source: data, target: '/new/writable' });
      mountInto(pid, { type: 'bind', source: join(folder, 'note'), target: '/new/note', readonly: true });
      mountInto(pid, { type: 'tmpfs', target: '/mnt', size: 65536, mode: 0o711 });
      mountInto(pid, { type: 'device', source: '/dev/zero', target: '/new/zero' });
      mountInto(pid, { type: 'directory', target: '/mnt/made/here' });
      mountInto(pid, { type: 'symlink', target: '/mnt/link', path: 'made' });
      const { stdout } = within(
        pid,
        `cat /new/data/file /new/note; (touch /new/data/x) 2>&- && echo wrote; (echo x > /new/note) 2>&- && echo wrote; touch /new/writable/there
       stat -c %a /mnt; head -c 2 /new/zero | od -An -tx1; ls /mnt/link`,
      );
      expect(stdout).toBe('from the host\na file\n711\n 00 00\nhere\n');
      expect(readdirSync(data).sort()).toEqual(['file', 'there']);
      expect(seen(pid, '/new/data')).toMatchObject([{ options: expect.arrayContaining(['ro']) }]);
      unmountFrom(pid, '/mnt');
      for (const path of ['/new/data', '/new/writable', '/new/note', '/new/zero'])
        unmountFrom(pidfd, path, { lazy: true });
      expect(mountTable({ pid }).filter(({ target }) => target === '/mnt' || target.startsWith('/new'))).toEqual([]);
      expect(readFileSync('/proc/self/mountinfo', 'utf8')).toBe(before);
      expect(readdirSync('/proc/self/fd').length).toBe(descriptors);
    });

    it('keeps targets inside, and says why not', async () => {
      const { pid } = await running({ user });
      const error = (action: () => void) => {
        try {
          action();
        } catch (reason) {
          return reason as KernelError;
        }
        throw new Error('no error');
      };
      expect(error(() => mountInto(pid, { type: 'tmpfs', target: '/hostile/x' }))).toMatchObject({
        name: 'KernelError',
        step: { phase: 'mount' },
      });
      expect(error(() => unmountFrom(pid, '/mnt'))).toMatchObject({
        code: 'EINVAL',
        hint: expect.stringContaining('no mount'),
      });
      expect(error(() => unmountFrom(pid, '/no/such')).code).toBe('ENOENT');
      expect(error(() => unmountFrom(pid, '/'))).toBeInstanceOf(TypeError);
      expect(error(() => mountInto(pid, { type: 'bind', source: '/no/such', target: '/mnt' })).code).toBe('ENOENT');
      expect(error(() => mountInto(pid, { type: 'bind', source: '/usr', target: '/etc/../x' }))).toBeInstanceOf(
        TypeError,
      );
      writeFileSync(join(folder, 'root/file'), '');
      expect(error(() => mountInto(pid, { type: 'tmpfs', target: '/file' })).code).toBe('ENOTDIR');
      expect(error(() => mountInto(pid, { type: 'bind', source: '/usr', target: '/file' })).code).toBe('ENOTDIR');
      expect(error(() => mountInto(0x3fffff, { type: 'tmpfs', target: '/mnt' })).code).toBe('ESRCH');
      for (const type of ['proc', 'sysfs', 'mqueue', 'cgroup', 'file'])
        expect(error(() => mountInto(pid, { type, target: '/mnt' } as unknown as LiveSpec))).toBeInstanceOf(TypeError);
    });

    it('has ended, before or while it is looked at', async () => {
      const { pid, pidfd } = await running({ user });
      using copy = pidfd.duplicate();
      // Each is tried on a process that dies about now.
      const codes = new Set<string>();
      syscall('pidfd_send_signal', pidfd, 9, null, 0);
      for (let i = 0; i < 50; i++) {
        try {
          mountInto(copy, { type: 'tmpfs', target: '/mnt' });
        } catch (error) {
          if (!KernelError.is(error) && !(error as { code?: string }).code) throw error;
          codes.add((error as { code: string }).code);
        }
      }
      end();
      expect(() => mountInto(copy, { type: 'tmpfs', target: '/mnt' })).toThrow(
        expect.objectContaining({ code: 'ESRCH' }),
      );
      expect(() => unmountFrom(copy, '/mnt')).toThrow(expect.objectContaining({ code: 'ESRCH' }));
      expect(() => unmountFrom(pid, '/mnt')).toThrow(
        expect.objectContaining({ code: expect.stringMatching(/ESRCH|ENOENT/) }),
      );
      expect([...codes].filter((code) => !['ESRCH', 'ENOENT', 'EPERM', 'EACCES', 'EINVAL'].includes(code))).toEqual([]);
    });

    it('has mounted over it: what lies on top goes first, what is in use only lazily', async () => {
      const { pid } = await running({ user });
      mountInto(pid, { type: 'tmpfs', target: '/mnt' });
      expect(within(pid, 'mount -t tmpfs theirs /mnt').status).toBe(0);
      const types = () => seen(pid, '/mnt').map((mount) => mount.source);
      expect(types().sort()).toEqual(['none', 'theirs']);
      unmountFrom(pid, '/mnt');
      expect(types()).toEqual(['none']);
      const worker = spawn('nsenter', enter(pid, 'cd /mnt && echo in && exec sleep 60'), {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      mutator = worker;
      await new Promise((resolve) => worker.stdout?.once('data', resolve));
      expect(() => unmountFrom(pid, '/mnt')).toThrow(
        expect.objectContaining({ code: 'EBUSY', hint: expect.stringContaining('lazy') }),
      );
      unmountFrom(pid, '/mnt', { lazy: true });
      expect(types()).toEqual([]);
    });

    it('swaps a target for links while mounts and unmounts go on: never outside, and no mask comes off', async () => {
      const { pid } = await running({ user });
      const path = join(folder, 'root');
      mkdirSync(join(path, 'swap/real'), { recursive: true });
      symlinkSync(`../../../../../../../../..${outside}`, join(path, 'swap/link'));
      symlinkSync('/proc/version', join(path, 'swap/mask'));
      const script = `import { syscall } from ${JSON.stringify(join(import.meta.dirname, '../../sys/src/index.ts'))};
      process.stdout.write('ready'); const end = Date.now() + 600000; const at = ${JSON.stringify(join(path, 'swap'))};
      while (Date.now() < end) for (const other of ['link', 'mask']) for (let i = 0; i < 2; i++) try { syscall('renameat2', -100, at + '/real', -100, at + '/' + other, 2); } catch {}`;
      writeFileSync(join(folder, 'swap.mts'), script);
      mutator = spawn(process.execPath, [...fromSources, join(folder, 'swap.mts')], {
        cwd: join(import.meta.dirname, '../../..'),
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      await new Promise((resolve) => mutator?.stdout?.once('data', resolve));
      const masks = seen(pid, '/proc/version').length;
      for (let i = 0; i < 100; i++) {
        for (const action of [
          () => mountInto(pid, { type: 'tmpfs', target: '/swap/real/sub' }),
          () => unmountFrom(pid, '/swap/real/sub', { lazy: true }),
          () => unmountFrom(pid, '/swap/mask', { lazy: true }),
        ]) {
          try {
            action();
          } catch (error) {
            if (!KernelError.is(error)) throw error;
            expect(error.step?.phase).toMatch(/mount|root/);
          }
        }
        expect(readdirSync(outside)).toEqual([]);
      }
      expect(masks).toBe(1);
      expect(seen(pid, '/proc/version')).toHaveLength(masks);
    });
  },
);

describe.skipIf(!root)('by who is privileged [needs root]', () => {
  it('gets an id-mapped bind, and a tree that is held here', async () => {
    const { pid } = await running();
    const data = join(folder, 'data');
    mkdirSync(data);
    writeFileSync(join(data, 'file'), '');
    using idmap = userNamespace();
    execFileSync('chown', ['1234:1234', join(data, 'file')]);
    using shifted = shift();
    const mapped = (target: string, map: Fd) => mountInto(pid, { type: 'bind', source: data, target, idmap: map });
    if (!MAPPABLE.includes(statfsSync(folder).type)) {
      // A folder on 9p, or in memory before Linux 6.3, takes no maps: it is told, and nothing is mounted.
      try {
        mapped('/same', idmap);
      } catch (error) {
        expect(error).toMatchObject({ code: 'EINVAL', hint: expect.stringContaining('supports no id-mapped') });
        return expect(seen(pid, '/same')).toEqual([]);
      }
      unmountFrom(pid, '/same');
    }
    mapped('/same', idmap);
    mapped('/shifted', shifted);
    using tree = MountTree.create('tmpfs', { parameters: { mode: '750' } });
    writeFileSync(`/proc/self/fd/${tree.fd.number}/inside`, '');
    mountInto(pid, { type: 'mount', source: tree, target: '/tree' });
    expect(within(pid, 'stat -c %u /same/file /shifted/file; ls /tree').stdout).toBe('1234\n101234\ninside\n');
    expect(statSync(join(data, 'file')).uid).toBe(1234);
  });

  it('that is not the process is told what is missing', async () => {
    const { pid } = await running();
    const script = `import { mountInto } from ${JSON.stringify(join(import.meta.dirname, 'index.ts'))};
      for (const spec of [{ type: 'tmpfs', target: '/mnt' }, { type: 'bind', source: '/usr', target: '/mnt' }])
        try { mountInto(${pid}, spec); console.log('mounted'); } catch (error) { console.log(error.code); }`;
    writeFileSync(join(folder, 'script.mts'), script);
    // The capability is gone; the sources stay readable.
    const { stdout } = spawnSync(
      'setpriv',
      [
        '--bounding-set=-sys_admin',
        '--inh-caps=-sys_admin',
        process.execPath,
        ...fromSources,
        join(folder, 'script.mts'),
      ],
      {
        encoding: 'utf8',
        cwd: join(import.meta.dirname, '../../..'),
      },
    );
    expect(stdout).toMatch(/^(EPERM|EACCES)\n(EPERM|EACCES)\n$/);
    expect(seen(pid, '/mnt')).toEqual([]);
  });

  function shift(): Fd {
    const child = spawn('unshare', ['-U', 'sleep', '60'], { stdio: 'ignore' });
    try {
      const self = statSync('/proc/self/ns/user').ino;
      const end = Date.now() + 10_000;
      while (Date.now() < end) {
        try {
          if (statSync(`/proc/${child.pid}/ns/user`).ino !== self) break;
        } catch {}
        spawnSync('sleep', ['0.02']);
      }
      for (const map of ['uid_map', 'gid_map']) writeFileSync(`/proc/${child.pid}/${map}`, '0 100000 65536');
      return Fd.open(`/proc/${child.pid}/ns/user`);
    } finally {
      child.kill('SIGKILL');
    }
  }
});
