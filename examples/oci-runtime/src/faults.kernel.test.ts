// What fails, or is killed, at any step of a container's life leaves nothing that `delete --force` does not take.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '@iso/process';
import { Filter, seccomp } from '@iso/seccomp';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { command, Lab } from './testing/lab.js';

const has = (program: string) => spawnSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' }).status === 0;
const missing = process.env.ISO_LONG
  ? [
      ...(process.getuid?.() === 0 ? [] : ['root']),
      ...(existsSync('/bin/busybox') ? [] : ['busybox-static']),
      ...(has('strace') ? [] : ['strace']),
    ]
  : ['ISO_LONG=1'];
const needs = missing.length ? ` [needs ${missing.join(', ')}]` : '';
/** What the program of these containers is called with, and no other process. */
const MARK = `6${process.pid}`;
const HOUR = 3_600_000;

describe.skipIf(needs)(`faults${needs}`, () => {
  let lab: Lab;
  let bundle: string;
  let clean: object;
  beforeAll(() => {
    lab = new Lab('/bin/busybox');
    bundle = lab.bundle('box', ['sleep', MARK]);
    // Parents of cgroups are made once, and stay.
    expect(lab.oci('create', '--bundle', bundle, 'box')).toMatchObject({ code: 0 });
    expect(lab.oci('delete', '--force', 'box')).toMatchObject({ code: 0 });
    clean = left();
  });
  afterEach(() => {
    lab.oci('delete', '--force', 'box');
    expect(left()).toEqual(clean);
  });
  afterAll(() => {
    const find = ['/sys/fs/cgroup', '-depth', '-path', `*/iso-test-${process.pid}*`, '-type', 'd'];
    for (const path of execFileSync('find', find, { encoding: 'utf8' }).split('\n')) if (path !== '') rmdirSync(path);
    rmSync(lab.folder, { recursive: true, force: true });
  });

  /** Everything that a container could leave. */
  function left(): object {
    const find = ['/sys/fs/cgroup', '-path', `*/iso-test-${process.pid}/*`, '-type', 'd'];
    return {
      store: existsSync(lab.store) ? readdirSync(lab.store) : [],
      mounts: readFileSync('/proc/self/mountinfo', 'utf8').split('\n').length,
      groups: execFileSync('find', find, { encoding: 'utf8' }),
      processes: readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && isOurs(pid)),
      root: readdirSync(lab.rootfs).sort(),
    };
  }

  function isOurs(pid: string): boolean {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(MARK);
    } catch {
      return false;
    }
  }

  /** Runs the command with one of its system calls, or its child's, failing: whether one did. */
  function failing(fault: string, ...args: string[]): { code: number | null; stderr: string; hit: boolean } {
    const trace = join(lab.folder, 'trace');
    const name = fault.split(':')[0];
    // Detached: a container that stays is traced on, and is not to be waited for.
    const strace = ['-D', '-f', '-qq', '-o', trace, '-e', `trace=${name}`, '-e', `inject=${fault}`];
    const errors = join(lab.folder, 'stderr');
    const words = [process.execPath, ...command, '--root', lab.store, ...args].map((word) => `'${word}'`).join(' ');
    // Its output goes to files: what stays behind would keep pipes open.
    const { status } = spawnSync('strace', [...strace, 'sh', '-c', `exec ${words} > /dev/null 2> ${errors}`], {
      stdio: 'ignore',
      timeout: 60_000,
    });
    return {
      code: status,
      stderr: readFileSync(errors, 'utf8'),
      hit: /INJECTED|killed by SIGKILL/.test(readFileSync(trace, 'utf8')),
    };
  }

  const calls = {
    mkdirat: 'ENOSPC',
    mkdir: 'ENOSPC',
    mknodat: 'ENOSPC',
    rename: 'ENOSPC',
    fsopen: 'EPERM',
    fsconfig: 'EINVAL',
    fsmount: 'EPERM',
    open_tree: 'EPERM',
    move_mount: 'EPERM',
    mount_setattr: 'EPERM',
    openat2: 'EMFILE',
    symlinkat: 'EACCES',
    pivot_root: 'EINVAL',
    umount2: 'EBUSY',
    sethostname: 'EPERM',
    setsid: 'EPERM',
    prlimit64: 'EPERM',
    setgroups: 'EPERM',
    setresgid: 'EPERM',
    setresuid: 'EPERM',
    capset: 'EPERM',
    keyctl: 'EPERM',
    memfd_create: 'EMFILE',
    pidfd_open: 'EMFILE',
    execveat: 'ENOENT',
    flock: 'EINTR',
    rmdir: 'EBUSY',
  };
  /** So many of one call's are tried, spread over all of them. */
  const MOST = 5;

  /** Where a call is made: each of them, or some where they are many. */
  function* places(name: string, ...args: string[]): Generator<number> {
    const trace = join(lab.folder, 'count');
    spawnSync(
      'strace',
      [
        '-D',
        '-f',
        '-qq',
        '-o',
        trace,
        '-e',
        `trace=${name}`,
        process.execPath,
        ...command,
        '--root',
        lab.store,
        ...args,
      ],
      {
        stdio: 'ignore',
      },
    );
    const perThread = new Map<string, number>();
    for (const [, thread = ''] of readFileSync(trace, 'utf8').matchAll(/^(\d+) \w+\(/gm))
      perThread.set(thread, (perThread.get(thread) ?? 0) + 1);
    const most = Math.max(0, ...perThread.values());
    const step = Math.max(1, Math.ceil(most / MOST));
    for (let at = 1; at <= most; at += step) yield at;
  }

  it.each(Object.entries(calls))('create where %s fails', { timeout: HOUR }, (name, error) => {
    const at = [...places(name, 'create', '--bundle', bundle, 'box')];
    lab.oci('delete', '--force', 'box');
    for (const when of at) {
      const where = `${name}:error=${error}:when=${when}`;
      const { code, stderr } = failing(where, 'create', '--bundle', bundle, 'box');
      // What it does without is made in another way: then there is a container, and it is whole.
      if (code === 0) expect(lab.oci('state', 'box').stdout, where).toMatch(/"created"/);
      else {
        expect(stderr, where).toMatch(/^iso-oci: ./);
        expect({ ...left(), processes: [] }, where).toEqual(clean);
      }
      expect(lab.oci('delete', '--force', 'box'), where).toMatchObject({ code: 0 });
      expect(left(), where).toEqual(clean);
    }
  });

  it.each([
    'mkdirat',
    'mkdir',
    'rename',
    'fsopen',
    'move_mount',
    'openat2',
    'pivot_root',
    'execveat',
    'memfd_create',
    'capset',
  ])('create that is killed at %s, and one after it', { timeout: HOUR }, (name) => {
    const at = [...places(name, 'create', '--bundle', bundle, 'box')];
    lab.oci('delete', '--force', 'box');
    for (const when of at) {
      const where = `${name}:signal=SIGKILL:when=${when}`;
      failing(where, 'create', '--bundle', bundle, 'box');
      expect(lab.oci('delete', '--force', 'box'), where).toMatchObject({ code: 0 });
      expect(left(), where).toEqual(clean);
    }
    expect(lab.oci('create', '--bundle', bundle, 'box')).toMatchObject({ code: 0 });
  });

  it.each([
    ['start', 'rename:error=ENOSPC:when=1'],
    ['start', 'rename:signal=SIGKILL:when=1'],
    ['start', 'flock:signal=SIGKILL:when=1'],
    ['delete', 'rmdir:error=EBUSY:when=1'],
    ['delete', 'rmdir:signal=SIGKILL:when=1'],
    ['delete', 'unlinkat:signal=SIGKILL:when=1'],
    ['delete', 'unlink:signal=SIGKILL:when=1'],
    ['delete', 'pidfd_send_signal:error=EPERM:when=1'],
    ['delete', 'pidfd_send_signal:signal=SIGKILL:when=1'],
  ])('%s with %s', { timeout: HOUR }, (verb, fault) => {
    expect(lab.oci('create', '--bundle', bundle, 'box')).toMatchObject({ code: 0 });
    failing(fault, verb, ...(verb === 'delete' ? ['--force'] : []), 'box');
    expect(lab.oci('delete', '--force', 'box')).toMatchObject({ code: 0 });
    expect(left()).toEqual(clean);
    expect(lab.oci('create', '--bundle', bundle, 'box')).toMatchObject({ code: 0 });
  });

  it('create that is killed takes no cgroup of another with it', { timeout: HOUR }, () => {
    expect(lab.oci('create', '--bundle', bundle, 'box')).toMatchObject({ code: 0 });
    for (const name of ['rename', 'symlink', 'openat2'])
      failing(`${name}:signal=SIGKILL:when=1`, 'create', '--bundle', bundle, 'other');
    expect(lab.oci('delete', '--force', 'other')).toMatchObject({ code: 0 });
    expect(lab.oci('state', 'box').stdout).toMatch(/"created"/);
  });

  it('create without cgroups that is killed when its process waits already', { timeout: HOUR }, () => {
    const words = ['--cgroup-manager', 'disabled', 'create', '--bundle', bundle, 'box'];
    expect(failing('rename:signal=SIGKILL:when=2', ...words).hit).toBe(true);
    expect(readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && isOurs(pid))).toHaveLength(1);
    expect(lab.oci('delete', '--force', 'box')).toMatchObject({ code: 0 });
    expect(left()).toEqual(clean);
  });

  it.each(['setns', 'execveat', 'memfd_create', 'capset', 'openat2', 'socketpair'])(
    'exec where %s fails, or is its last',
    { timeout: HOUR },
    (name) => {
      expect(lab.oci('create', '--bundle', bundle, 'box')).toMatchObject({ code: 0 });
      expect(lab.oci('start', 'box')).toMatchObject({ code: 0 });
      const before = left();
      for (const fault of [`${name}:error=EPERM:when=1`, `${name}:signal=SIGKILL:when=1`]) {
        failing(fault, 'exec', 'box', 'true');
        expect(lab.oci('exec', 'box', 'true'), fault).toMatchObject({ code: 0 });
        expect(left(), fault).toEqual(before);
      }
    },
  );

  it.each(['openat2', 'clone3', 'mount_setattr', 'fsopen', 'move_mount', 'open_tree', 'pidfd_open', 'close_range'])(
    'a kernel without %s: the same, or an error that names it',
    { timeout: HOUR },
    async (name) => {
      const filter = new Filter({ default: 'allow', rules: [{ calls: [name], action: { errno: 'ENOSYS' } }] });
      const there = lab.bundle('enosys', ['sh', '-c', 'id -u; cat /proc/self/status | grep NSpid; exit 3']);
      const words = [...command, '--root', lab.store, 'run', '--bundle', there, 'enosys'];
      const { code, stdout, stderr } = await run(process.execPath, words, { confine: [seccomp(filter)], check: false });
      if (code === 3) expect(stdout).toMatch(/^0\nNSpid:\t\d+\n$/);
      else
        expect({ code, stderr }).toEqual({
          code: 1,
          stderr: expect.stringMatching(new RegExp(`${name}.*(not supported|ENOSYS)`)),
        });
      expect(left()).toEqual(clean);
    },
  );

  it('of 50 that make the same one, one does', { timeout: HOUR }, async () => {
    const words = [...command, '--root', lab.store, 'create', '--bundle', bundle, 'box'];
    const codes = await Promise.all(
      Array.from(
        { length: 50 },
        () =>
          new Promise((resolve) =>
            spawn(process.execPath, words, { stdio: 'ignore' }).on('exit', (code, signal) => resolve(code ?? signal)),
          ),
      ),
    );
    expect(codes.filter((code) => code === 0)).toHaveLength(1);
    expect(codes.filter((code) => code === 1)).toHaveLength(49);
    expect(lab.oci('state', 'box').stdout).toMatch(/"created"/);
    expect(lab.oci('list', '-q').stdout).toBe('box\n');
  });

  it('races: create, start, kill and delete at once, again and again', { timeout: HOUR }, async () => {
    const rounds = Number(process.env.ISO_ROUNDS ?? 1000);
    const one = (...args: string[]) =>
      new Promise((resolve) =>
        spawn(process.execPath, [...command, '--root', lab.store, ...args], { stdio: 'ignore' }).on('exit', resolve),
      );
    for (let round = 0; round < rounds; round++) {
      const create = one('create', '--bundle', bundle, 'box');
      // Half of the time the others come upon one that is being made.
      if (round % 2) await create;
      await Promise.all([create, one('start', 'box'), one('kill', 'box', 'KILL'), one('delete', '--force', 'box')]);
      if (round % 20) continue;
      lab.oci('delete', '--force', 'box');
      expect(left(), `round ${round}`).toEqual(clean);
    }
  });

  it.each(['FIFO', 'link', 'file of 2 GB'])(
    'a %s where /etc/passwd belongs keeps nobody waiting',
    { timeout: HOUR },
    (kind) => {
      const passwd = join(lab.rootfs, 'etc/passwd');
      if (kind === 'FIFO') execFileSync('mkfifo', [passwd]);
      else if (kind === 'link') execFileSync('ln', ['-s', '/dev/zero', passwd]);
      else {
        writeFileSync(passwd, '');
        truncateSync(passwd, 2 ** 31);
      }
      const began = performance.now();
      const said = lab.oci('run', '--bundle', lab.bundle('passwd', ['true']), 'passwd');
      rmSync(passwd);
      expect(said).toMatchObject({ code: 0 });
      expect(performance.now() - began).toBeLessThan(2000);
    },
  );
});
