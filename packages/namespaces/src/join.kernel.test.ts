import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Fd, KernelError, LaunchProgram, launch, type Part, reap, StringArray, syscall } from '@iso/sys';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { inside } from '../../../test/confined.js';
import { inNode } from './fixture.js';
import { Namespace, type NamespacesOptions, type NamespaceType, namespaces, types, UserNamespace } from './index.js';

const root = process.getuid?.() === 0;
const userNamespaces = (() => {
  try {
    UserNamespace.create('root').close();
    return true;
  } catch {
    return false;
  }
})();
const all = Object.keys(types) as NamespaceType[];

/** A container that somebody else made: util-linux's unshare. */
let box: ChildProcess;
let pid = 0;
async function start(...options: string[]): Promise<void> {
  const script =
    'mount -t tmpfs -o size=64k tmpfs /mnt && echo here >/mnt/file && hostname elsewhere && echo ready && exec sleep 300';
  box = spawn('unshare', [...options, 'sh', '-c', script], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  await once(box.stdout as never, 'data');
  // unshare waits outside; the process inside is its child.
  pid = Number(readFileSync(`/proc/${box.pid}/task/${box.pid}/children`, 'utf8').trim());
}
async function end(): Promise<void> {
  if (!box) return;
  process.kill(pid, 'SIGKILL');
  if (box.exitCode === null && box.signalCode === null) await once(box, 'exit');
  box.stdout?.destroy();
}
const links = (of: number | string) => all.map((type) => readlinkSync(`/proc/${of}/ns/${types[type].file}`));
const show = `cat /mnt/file; hostname; id -u; for n in ${all.map((type) => types[type].file).join(' ')}; do readlink /proc/self/ns/$n; done`;

for (const [who, options, possible] of [
  ['root', ['-mpnuiCf', '--mount-proc', '--kill-child'], root],
  ['root, into another user namespace', ['-UrmpnuiCTf', '--mount-proc', '--kill-child'], root && userNamespaces],
  ['a plain user', ['-UrmpnuiCTf', '--mount-proc', '--kill-child'], !root && userNamespaces],
] as const) {
  describe.skipIf(!possible)(
    `joining a container of somebody’s, as ${who} [needs ${root ? 'a plain user' : 'root'}]`,
    () => {
      beforeEach(() => start(...options));
      afterEach(end);

      const of = (
        source: () => Namespace | { pid: number } | { pidfd: Fd } | { path: string },
        only: NamespaceType[] = all,
      ) => namespaces(Object.fromEntries(only.map((type) => [type, source()])) as NamespacesOptions);

      it('by pid: all eight at once', async () => {
        expect(
          (
            await inside(
              of(() => ({ pid })),
              show,
            )
          ).split('\n'),
        ).toEqual(['here', 'elsewhere', '0', ...links(pid), '']);
      });

      it('by pidfd', async () => {
        using pidfd = Fd.own(syscall('pidfd_open', pid, 0));
        expect(
          (
            await inside(
              of(() => ({ pidfd })),
              show,
            )
          )
            .split('\n')
            .slice(3),
        ).toEqual([...links(pid), '']);
      });

      it('by path and by descriptor, in any order', async () => {
        const held = all.map((type) => Namespace.open({ pid }, type));
        const choices = held.map((namespace, i) =>
          i % 2 ? { path: `/proc/${pid}/ns/${types[namespace.type].file}` } : { fd: namespace.fd },
        );
        for (const order of [all, [...all].reverse()]) {
          const part = namespaces(
            Object.fromEntries(order.map((type) => [type, choices[all.indexOf(type)]])) as NamespacesOptions,
          );
          expect((await inside(part, show)).split('\n').slice(3)).toEqual([...links(pid), '']);
        }
        for (const namespace of held) namespace.close();
      });

      it('some, with new ones beside', async () => {
        const theirs = readlinkSync(`/proc/${pid}/ns/net`);
        const part = namespaces({ user: { pid }, net: { pid }, uts: { hostname: 'third' }, pid: 'new' });
        const [net, name, first] = (await inside(part, 'readlink /proc/self/ns/net; hostname; echo $$')).split('\n');
        expect([net, name, first]).toEqual([theirs, 'third', '1']);
      });

      it('keeps this process where it is', async () => {
        const before = links('self');
        await inside(
          of(() => ({ pid })),
          'true',
        );
        expect(links('self')).toEqual(before);
        expect(new Set(all.map((type) => readlinkSync(`/proc/thread-self/ns/${types[type].file}`)))).toEqual(
          new Set(before),
        );
      });
    },
  );
}

describe('joining', () => {
  it('leaves out the caller’s own user namespace, which nobody can join', async () => {
    for (const user of [{ pid: process.pid }, { path: '/proc/self/ns/user' }])
      expect(await inside(namespaces({ user }), 'readlink /proc/self/ns/user')).toBe(
        `${readlinkSync('/proc/self/ns/user')}\n`,
      );
  });

  it.skipIf(!userNamespaces)(
    'of a user namespace, and of what belongs to one below it [needs user namespaces]',
    async () => {
      const outer = spawn(
        'unshare',
        ['-Ur', 'unshare', '-Urnf', '--kill-child', 'sh', '-c', 'echo ready; exec sleep 300'],
        {
          stdio: ['ignore', 'pipe', 'ignore'],
        },
      );
      await once(outer.stdout as never, 'data');
      const inner = Number(readFileSync(`/proc/${outer.pid}/task/${outer.pid}/children`, 'utf8').trim());
      const link = (of: number, name: string) => readlinkSync(`/proc/${of}/ns/${name}`);
      // The inner one waits in its own user namespace for its child: the one above is that namespace's parent.
      using below = Namespace.open({ pid: inner }, 'user');
      using user = below.parent();
      const text = await inside(
        namespaces({ net: { pid: inner }, user }),
        'readlink /proc/self/ns/user /proc/self/ns/net',
      );
      expect(text).toBe(`user:[${user.id}]\n${link(inner, 'net')}\n`);
      process.kill(inner, 'SIGKILL');
      await once(outer, 'exit');
      outer.stdout?.destroy();
    },
  );

  it.skipIf(!root)('a time namespace shows its clocks [needs root]', async () => {
    using time = Namespace.create('time', { boottime: 1_000_000.5, monotonic: -1 });
    const [uptime = '', offsets] = (
      await inside(namespaces({ time }), 'cat /proc/uptime; cat /proc/self/timens_offsets | tr -s " "')
    ).split(/\n(.*)/s);
    expect(Number(uptime.split(' ')[0]) - Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0])).toBeGreaterThan(
      999_999,
    );
    expect(offsets).toBe('monotonic -1 0\nboottime 1000000 500000000\n');
    expect(() => Namespace.create('time', { monotonic: -4_000_000_000 })).toThrow(/below zero/);
    await expect(inside(namespaces({ time: { boottime: -4_000_000_000 } }), 'true')).rejects.toMatchObject({
      code: 'ERANGE',
    });
  });

  it.skipIf(!userNamespaces)('names of 64 bytes, and not ASCII [needs user namespaces]', async () => {
    using user = UserNamespace.create('root');
    for (const hostname of ['x'.repeat(64), 'ü'.repeat(32), 'größe']) {
      const part = namespaces({ user, uts: { hostname, domainname: hostname } });
      expect(await inside(part, 'cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname')).toBe(
        `${hostname}\n${hostname}\n`,
      );
    }
    for (const hostname of ['x'.repeat(65), 'ü'.repeat(33), 'a\0b'])
      expect(() => Namespace.create('uts', { hostname, owner: user })).toThrow(TypeError);
  });

  describe.skipIf(!root)('a plain user’s, by root [needs root]', () => {
    const status = (part: Part, more?: (program: LaunchProgram) => void) => {
      const program = new LaunchProgram();
      void part.confine(program);
      more?.(program);
      program.step('exec', 'execve', ['/bin/sleep', new StringArray(['sleep', '60']), new StringArray([])]);
      const { pid: started, pidfd } = launch(program);
      const text = readFileSync(`/proc/${started}/status`, 'utf8');
      syscall('pidfd_send_signal', pidfd, 9, null, 0);
      reap(pidfd, { block: true });
      pidfd.close();
      return text;
    };
    const theirs = async (...map: string[]) => {
      const user = ['--reuid', '65534', '--regid', '65534', '--clear-groups'];
      box = spawn('setpriv', [...user, 'unshare', '-U', ...map, 'sh', '-c', 'echo ready; exec sleep 300'], {
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      await once(box.stdout as never, 'data');
      return box.pid as number;
    };
    afterEach(async () => {
      box.kill('SIGKILL');
      await once(box, 'exit');
      box.stdout?.destroy();
    });

    it('takes no groups inside, which nobody can drop there', async () => {
      const at = await theirs('-r');
      const out = inNode(
        `const { readFileSync } = await import('node:fs');
         const program = new sys.LaunchProgram();
         ns.namespaces({ user: { pid: ${at} } }).confine(program);
         program.step('exec', 'execve', ['/bin/sleep', new sys.StringArray(['sleep', '60']), new sys.StringArray([])]);
         const { pid, pidfd } = sys.launch(program);
         console.log(readFileSync('/proc/' + pid + '/status', 'utf8').match(/^Groups:.*/m)[0].trim());
         sys.syscall('pidfd_send_signal', pidfd, 9, null, 0);
         sys.reap(pidfd, { block: true });`,
        'exec setpriv --groups 4,24 "$0" "$@"',
      );
      expect(out).toBe('Groups:\n');
    });

    it('does not run a program as who is nobody inside, and root outside', async () => {
      const at = await theirs('--map-user=1000', '--map-group=1000');
      const part = namespaces({ user: { pid: at } });
      expect(() => status(part)).toThrow(
        expect.objectContaining({ code: 'EINVAL', step: expect.objectContaining({ phase: 'privileges' }) }),
      );
      const text = status(part, (program) => {
        program.step('credentials', 'setresgid', [1000, 1000, 1000]);
        program.step('credentials', 'setresuid', [1000, 1000, 1000]);
      });
      expect(text).toMatch(/^Uid:\t65534\t65534/m);
      expect(text).toMatch(/^Gid:\t65534\t65534/m);
    });
  });

  it('says what is wrong with a source', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
    const [file, fifo] = [join(folder, 'file'), join(folder, 'fifo')];
    writeFileSync(file, '');
    execFileSync('mkfifo', [fifo]);
    using regular = Fd.open(file);
    using device = Fd.open('/dev/null');
    const code = (action: () => unknown) => {
      try {
        action();
        return 'none';
      } catch (error) {
        if (!(error instanceof TypeError) && !KernelError.is(error)) throw error;
        if (KernelError.is(error) && error.code !== 'ENOENT') expect(error.hint).toBeTruthy();
        return (error as { code?: string }).code;
      }
    };
    const gone = spawn('true');
    await once(gone, 'exit');
    for (const [source, expected] of [
      [{ path: '/proc/self/ns/uts' }, 'ERR_INVALID_ARG_VALUE'],
      [{ path: file }, 'ERR_INVALID_ARG_VALUE'],
      [{ path: fifo }, 'ERR_INVALID_ARG_VALUE'],
      [{ path: folder }, 'ERR_INVALID_ARG_VALUE'],
      [{ path: '/dev/null' }, 'ERR_INVALID_ARG_VALUE'],
      [{ path: join(folder, 'missing') }, 'ENOENT'],
      [{ fd: regular }, 'ERR_INVALID_ARG_VALUE'],
      [{ fd: device }, 'ERR_INVALID_ARG_VALUE'],
      [{ pid: gone.pid as number }, 'ESRCH'],
      [{ pid: 0 }, 'ERR_INVALID_ARG_VALUE'],
      [{ pid: -1 }, 'ERR_INVALID_ARG_VALUE'],
      [{ pid: 1.5 }, 'ERR_INVALID_ARG_VALUE'],
      ...(root ? [] : ([[{ pid: 1 }, 'EACCES']] as const)),
    ] as const) {
      expect([source, code(() => Namespace.open(source, 'net'))]).toEqual([source, expected]);
      await expect(inside(namespaces({ net: source }), 'true')).rejects.toMatchObject({ code: expected });
    }
    expect(code(() => Namespace.open({ pidfd: regular }, 'net'))).toMatch(/ERR_INVALID_ARG_VALUE/);
    const brief = spawn('sleep', ['60']);
    using pidfd = Fd.own(syscall('pidfd_open', brief.pid as number, 0));
    brief.kill('SIGKILL');
    await once(brief, 'exit');
    expect(code(() => Namespace.open({ pidfd }, 'net'))).toBe('ESRCH');
    rmSync(folder, { recursive: true });
  });
});
