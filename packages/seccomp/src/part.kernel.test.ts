import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LaunchProgram, launch, reap, StringArray, type SyscallName } from '@iso/sys';
import { afterAll, describe, expect, it } from 'vitest';
import { inside, outcome } from '../../../test/confined.js';
import { fromSources } from '../../../test/typescript.js';
import { anyFilter, Dice } from './fixture.js';
import { type Action, defaultProfile, Filter, type FilterOptions, Profile, seccomp } from './index.js';
import { install } from './part.js';

const folder = mkdtempSync(join(tmpdir(), 'iso-seccomp-'));
afterAll(() => rmSync(folder, { recursive: true }));
const root = process.getuid?.() === 0;
const has = (tool: string) => spawnSync('sh', ['-c', `command -v ${tool}`]).status === 0;
const deny = (calls: string[], action: Action = { errno: 'EPERM' }) =>
  new Filter({ default: 'allow', rules: [{ calls, action }] });

describe('seccomp()', () => {
  it('installs a filter, and no_new_privs with it', async () => {
    const status = await inside(seccomp(deny(['uname'])), 'grep -E "^(Seccomp|NoNewPrivs)" /proc/self/status');
    expect(status).toBe('NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n');
  });

  it.skipIf(!root)('without no_new_privs, for root [needs root]', async () => {
    const part = seccomp(deny(['uname']), { noNewPrivileges: false });
    expect(await inside(part, 'grep ^NoNewPrivs /proc/self/status')).toBe('NoNewPrivs:\t0\n');
  });

  it('refuses, kills, and lets be', async () => {
    expect(await inside(seccomp(deny(['uname'], { errno: 'EDOM' })), 'uname 2>&1 || :')).toMatch(
      /argument out of domain/,
    );
    // 128 + SIGSYS, as the shell has it.
    expect(await inside(seccomp(deny(['uname'], 'kill-process')), 'uname; echo $?')).toBe('159\n');
    expect(await inside(seccomp(deny(['uname'], 'trap')), 'uname; echo $?')).toBe('159\n');
    expect(await inside(seccomp(deny(['uname'], 'log')), 'uname')).toBe('Linux\n');
    // Without a tracer.
    expect(await inside(seccomp(deny(['uname'], { trace: 1 })), 'uname 2>&1 || :')).toMatch(/not implemented/);
  });

  it('takes the flags', async () => {
    const part = seccomp(deny(['uname']), { flags: ['log', 'spec-allow', 'tsync'] });
    expect(await inside(part, 'uname 2>/dev/null || echo no')).toBe('no\n');
  });

  it('tells how a launch ends that may not execute', async () => {
    await expect(inside(seccomp(deny(['execve'])), 'true')).rejects.toMatchObject({ code: 'EPERM', syscall: 'execve' });
    await expect(inside(seccomp(deny(['execve'], 'kill-process')), 'true')).rejects.toThrow(/SIGSYS|signal 31/);
  });

  it('refuses what nobody could answer, other machines, misspelt options', async () => {
    const code = 'ERR_INVALID_ARG_VALUE';
    expect(() => seccomp(deny(['uname'], 'notify'))).toThrow(/use a Supervisor/);
    expect(() => seccomp(deny(['uname']), { flags: ['logs'] as never })).toThrow(/no flag: "logs"/);
    expect(() => seccomp(deny(['uname']), { flag: [] } as never)).toThrow(/no option "flag"/);
    expect(() => seccomp({} as never)).toThrow(expect.objectContaining({ code }));
    const foreign = process.arch === 'x64' ? 'arm64' : 'x64';
    const other = seccomp(new Filter({ default: 'allow', architecture: foreign }));
    expect(() => other.confine(new LaunchProgram())).toThrow(/the filter is for/);
    expect(() => seccomp(deny(['uname'])).confine(new LaunchProgram('errand'))).toThrow(/not for an errand/);
  });

  it.skipIf(!has('strace'))('installs what strace sees [needs strace]', () => {
    const filter = deny(['uname']);
    const script = `const { seccomp, Filter } = await import(${JSON.stringify(join(import.meta.dirname, 'index.ts'))});
      const { LaunchProgram, launch, reap, StringArray } = await import('@iso/sys');
      const filter = new Filter({ default: 'allow', rules: [{ calls: ['uname'], action: { errno: 'EPERM' } }] });
      const program = new LaunchProgram();
      seccomp(filter).confine(program);
      program.step('exec', 'execve', ['/bin/true', new StringArray(['true']), new StringArray([])]);
      const { pidfd } = launch(program);
      reap(pidfd, { block: true });
      process.exit(0);`;
    const log = join(folder, 'strace');
    const node = [process.execPath, ...fromSources, '--input-type=module', '-e', script];
    const options = { encoding: 'utf8', cwd: import.meta.dirname } as const;
    const { status, stderr } = spawnSync('strace', ['-f', '-e', 'trace=seccomp,prctl', '-o', log, ...node], options);
    expect(status, stderr).toBe(0);
    const { stdout } = spawnSync('grep', ['-E', 'NO_NEW_PRIVS|SECCOMP_SET', log], { encoding: 'utf8' });
    expect(stdout).toMatch(/prctl\(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0\) += 0/);
    expect(stdout).toMatch(
      new RegExp(`seccomp\\(SECCOMP_SET_MODE_FILTER, 0, {len=${filter.instructions}, filter=0x.*}\\) += 0`),
    );
  });
});

describe('the default profile', () => {
  it('runs programs', async () => {
    const script = 'ls / | grep -c etc; cat /proc/self/comm; find /etc/passwd | wc -l; date +%Y | wc -c; sleep 0';
    expect(await inside(seccomp(defaultProfile.filter()), script)).toBe('1\ncat\n1\n5\n');
  });

  it('keeps from what it is for', async () => {
    const part = seccomp(defaultProfile.filter());
    for (const script of ['unshare -U true', 'mount -t tmpfs x /mnt', 'chroot / true'])
      expect(await inside(part, `${script} 2>&1 || echo no`), script).toMatch(
        // The last is said by mount(8) itself to who is not root.
        /(not permitted|permission denied|must be superuser)[\s\S]*\nno\n$/i,
      );
  });

  it.skipIf(!root || !has('python3'))('gives chroot back with its capability [needs root, python3]', async () => {
    const script = `python3 -c 'import os; os.chroot("/"); print("in")' 2>/dev/null || echo out`;
    expect(await inside(seccomp(defaultProfile.filter({ capabilities: ['SYS_CHROOT'] })), script)).toBe('in\n');
    expect(await inside(seccomp(defaultProfile.filter()), script)).toBe('out\n');
  });
});

const json = {
  defaultAction: 'SCMP_ACT_ALLOW',
  syscalls: [
    { names: ['uname'], action: 'SCMP_ACT_ERRNO', errnoRet: 33 },
    { names: ['socket'], action: 'SCMP_ACT_ERRNO', errnoRet: 97, args: [{ index: 0, value: 16, op: 'SCMP_CMP_EQ' }] },
    {
      names: ['getpriority'],
      action: 'SCMP_ACT_ERRNO',
      args: [{ index: 0, value: 2, valueTwo: 2, op: 'SCMP_CMP_MASKED_EQ' }],
    },
  ],
};
const probe = `python3 -c '
import ctypes, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    ctypes.set_errno(0)
    return (libc.syscall(*args) >= 0, ctypes.get_errno())
print(call(63, ctypes.create_string_buffer(390)), call(41, 16, 3, 0), call(41, 2, 2, 0), call(140, 2, 0), call(140, 0, 0))
'`;

it.skipIf(!root || !has('crun') || !has('python3') || process.arch !== 'x64')(
  'decides as crun does by libseccomp, of the same profile [needs root, crun, python3, x64]',
  async () => {
    const ours = await inside(seccomp(Profile.parse(json).filter()), probe);
    const bundle = join(folder, 'bundle');
    spawnSync('mkdir', ['-p', ...['dev', 'proc', 'sys'].map((name) => join(bundle, 'root', name))]);
    const proc = { destination: '/proc', type: 'proc', source: 'proc' };
    const mounts = ['/usr', '/lib', '/lib64', '/bin'].filter(existsSync).map((path) => ({
      destination: path,
      source: path,
      options: ['rbind', 'ro'],
    }));
    const config = {
      ociVersion: '1.0.0',
      process: { args: ['/bin/sh', '-c', probe], cwd: '/', env: ['PATH=/usr/bin:/bin'], user: { uid: 0, gid: 0 } },
      root: { path: 'root' },
      mounts: [proc, ...mounts],
      linux: {
        namespaces: [{ type: 'mount' }, { type: 'pid' }],
        seccomp: { ...json, architectures: ['SCMP_ARCH_X86_64'] },
      },
    };
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(config));
    const state = join(folder, 'state');
    const name = `iso-test-${process.pid}`;
    // Of a hybrid layout it would not start; the v2 tree goes away in a mount namespace of its own.
    const script = `umount /sys/fs/cgroup/unified 2>/dev/null; crun --root "$0" run -b "$1" "$2"; crun --root "$0" delete -f "$2" 2>/dev/null; :`;
    const args = ['-m', '--propagation', 'private', 'sh', '-c', script, state, bundle, name];
    const { stdout, stderr } = spawnSync('unshare', args, { encoding: 'utf8' });
    expect(stdout, stderr).toBe(ours);
    expect(ours).toBe('(False, 33) (False, 97) (True, 0) (False, 1) (True, 0)\n');
  },
);

describe('the kernel', () => {
  /** Calls that do nothing, whatever their arguments are. */
  const harmless: SyscallName[] = [
    ...([
      'getpid',
      'gettid',
      'getppid',
      'getuid',
      'geteuid',
      'getgid',
      'getegid',
      'sched_yield',
      'getpgid',
      'getsid',
    ] as const),
    ...(['getpriority', 'sched_getscheduler', 'sched_get_priority_max', 'sched_get_priority_min'] as const),
  ];
  const actions: Action[] = ['allow', 'log', ...Array.from({ length: 30 }, (_, i): Action => ({ errno: 1000 + i }))];

  it(`agrees with the simulator on ${process.env.ISO_LONG ? '10000 random filters' : 'random filters'}`, {
    timeout: 600_000,
  }, () => {
    const count = process.env.ISO_LONG ? 10_000 : 60;
    const names = [
      ...harmless,
      ...harmless,
      ...harmless,
      'reboot',
      'mount',
      'bpf',
      'ptrace',
      'open_tree',
      'kexec_load',
    ];
    let refused = 0;
    for (let seed = 1; seed <= count; seed++) {
      const dice = new Dice(seed);
      const { options, words } = anyFilter(dice, names, actions);
      const filter = new Filter(runnable(options));
      const probes = Array.from({ length: 40 }, () => ({
        call: dice.pick(harmless),
        args: Array.from({ length: 6 }, () => dice.word(words)),
      }));
      const results = make(filter, probes);
      for (const [i, { call, args }] of probes.entries()) {
        const action = filter.evaluate(call, args);
        const errno = typeof action === 'object' && 'errno' in action ? -action.errno : undefined;
        const result = results[i] as number;
        if (errno !== undefined) refused++;
        expect({ seed, call, args, result: result <= -1000 && result > -1100 ? result : undefined }).toEqual({
          seed,
          call,
          args,
          result: errno,
        });
      }
    }
    expect(refused).toBeGreaterThan(count * 5);
  });

  /** What a child must do to end as it should is allowed. */
  function runnable(options: FilterOptions): FilterOptions {
    const needed = [
      'execve',
      'exit',
      'exit_group',
      'brk',
      'mmap',
      'mprotect',
      'munmap',
      'openat',
      'read',
      'close',
      'access',
    ];
    const more = [
      'arch_prctl',
      'set_tid_address',
      'set_robust_list',
      'rseq',
      'prlimit64',
      'fstat',
      'newfstatat',
      'pread64',
    ];
    const calls = [...needed, ...more, 'getrandom', 'faccessat', 'futex'];
    return { ...options, rules: [{ calls, action: 'allow' }, ...(options.rules ?? [])] };
  }

  /** Installs a filter in a child that then makes calls. */
  function make(filter: Filter, probes: { call: SyscallName; args: bigint[] }[]): (number | undefined)[] {
    const program = new LaunchProgram();
    install(program, filter.bytes(), 0, {});
    const slots = probes.map(({ call, args }) =>
      program.step(
        'filter',
        call,
        args.map((arg) => BigInt.asIntN(64, arg)),
        { ignore: ['*'] },
      ),
    );
    program.step('exec', 'execve', ['/bin/true', new StringArray(['true']), new StringArray([])]);
    const { pidfd } = launch(program);
    const status = reap(pidfd, { block: true });
    pidfd.close();
    expect(status?.code).toBe(0);
    return slots.map(({ value }) => value);
  }
});

it.skipIf(!has('gcc') || process.arch !== 'x64')(
  'refuses calls of i386 and x32, and answers new ones [needs gcc, x64]',
  async () => {
    const source = join(folder, 'abi.c');
    const tool = join(folder, 'abi');
    writeFileSync(
      source,
      `#include <errno.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <unistd.h>
    #include <sys/syscall.h>
    int main(int argc, char **argv) {
      long number = strtol(argv[2], 0, 0);
      if (argv[1][0] == 'i') {
        int result;
        __asm__ volatile("int $0x80" : "=a"(result) : "a"((int)number) : "memory");
        printf("%d\\n", result);
      } else {
        long result = syscall(number);
        printf("%ld %d\\n", result, result < 0 ? errno : 0);
      }
    }`,
    );
    expect(spawnSync('gcc', ['-O1', '-o', tool, source], { encoding: 'utf8' }).stderr).toBe('');
    const filter = new Filter({ default: 'allow', unknown: { errno: 1234 }, foreign: 'kill-process' });
    const end = async (...args: string[]) => outcome(seccomp(filter), [tool, ...args]);
    expect(await end('n', '186')).toMatchObject({ code: 0 });
    expect(await end('n', '900')).toMatchObject({ code: 0, stdout: '-1 1234\n' });
    expect(await end('n', '400')).toMatchObject({ code: 0, stdout: '-1 1234\n' });
    // x32, and number 20 (getpid) of i386.
    expect(await end('n', '0x40000027')).toMatchObject({ signal: 31 });
    // A kernel without i386 calls ends it too.
    const bare = await outcome({ confine: () => {} }, [tool, 'i', '20']);
    expect(await end('i', '20')).toMatchObject({ signal: bare.signal ?? 31 });
    const polite = seccomp(new Filter({ default: 'allow', foreign: { errno: 1234 } }));
    expect(await outcome(polite, [tool, 'n', '0x40000027'])).toMatchObject({ code: 0, stdout: '-1 1234\n' });
    if (bare.code === 0) expect(await outcome(polite, [tool, 'i', '20'])).toMatchObject({ code: 0, stdout: '-1234\n' });
  },
);
