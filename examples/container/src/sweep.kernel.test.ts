import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Kernel, KernelError, kernel, type LaunchPlan, replaceKernel, type SyscallName } from '@iso/sys';
import { difference, ledger, RecordingKernel } from '@iso/sys/testing';
import { afterAll, describe, expect, it } from 'vitest';
import { fromSources } from '../../../test/typescript.js';
import type { ContainerOptions } from './assemble.js';
import { run } from './container.js';
import type { Case, Outcome } from './sweep.driver.js';

const root = process.getuid?.() === 0;
const strace = spawnSync('strace', ['-V']).status === 0;
const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
mkdirSync(join(folder, 'data'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Where a start takes ten times as long, as in a virtual machine, every ninth of them stands for all. */
const every = process.env.ISO_SLOW ? 9 : 1;
/** Of those that strace holds up or that are tried another way too, every third but on the long run. */
const everyThird = process.env.ISO_SLOW || process.env.ISO_LONG ? every : 3;

/** What can be seen of a container from its inside, less what differs from start to start. */
const look = `exec 2>/dev/null
  sed -E 's/^[0-9]+ [0-9]+ [0-9]+:[0-9]+ //; s/(shared|master|propagate_from):[0-9]+/\\1/g; s/lowerdir[^ ]*//' /proc/self/mountinfo
  cat /proc/sys/kernel/hostname /etc/hostname /etc/hosts; pwd; umask; id; env | sort
  grep -E '^(Uid|Gid|Groups|Sig[BI]|Cap|NoNew|NSpid)' /proc/self/status
  cat /proc/self/limits /proc/self/uid_map; ls -A /dev /proc/self/fd | tr '\\n' ' '
  cut -d: -f3 /proc/self/cgroup; awk -F: 'NR > 2 {print $1}' /proc/net/dev
  touch /written && echo writable; ps -o sid= -p 1 2>/dev/null; echo`;

const full: ContainerOptions = {
  root: '/',
  name: 'sweep',
  command: ['sh', '-c', look],
  user: '1:1',
  volumes: [{ source: join(folder, 'data'), target: '/data', readonly: true }],
  tmpfs: [{ target: '/memory', size: 65536 }],
  memory: 64 * 2 ** 20,
  pidsLimit: 50,
  cpus: 1,
  stdio: ['pty', 'pipe', 'ignore'],
};

/** Errors that such a call may well have. What a launch takes for an answer (ENOENT of a masked path) is none of them. */
const errors: Partial<Record<SyscallName, string>> = {
  clone3: 'EAGAIN',
  close_range: 'EINVAL',
  execve: 'ENOEXEC',
  fchdir: 'EACCES',
  fcntl: 'EMFILE',
  fsconfig: 'ENOMEM',
  ioctl: 'EIO',
  mkdirat: 'ENOSPC',
  mknodat: 'ENOSPC',
  openat: 'EMFILE',
  openat2: 'EMFILE',
  pivot_root: 'EINVAL',
  prlimit64: 'EPERM',
  setns: 'EINVAL',
  socket: 'EMFILE',
  symlinkat: 'ENOSPC',
  umount2: 'EBUSY',
  write: 'ENOSPC',
};

async function refused(action: () => Promise<unknown>): Promise<KernelError> {
  try {
    await action();
  } catch (error) {
    return error as KernelError;
  }
  throw new Error('it started');
}

/** What does not fail: its own memory's state, a signal to a child of its own, and an epoll that has to be there for Node. */
const untouched = new Set<SyscallName>(['prctl', 'pidfd_send_signal', 'epoll_create1', 'epoll_ctl']);

describe.skipIf(!root)('a start with every part [needs root]', () => {
  it('names the step, whichever fails, and leaves nothing', async () => {
    const { memory, pidsLimit, cpus, ...rest } = full;
    const everything: ContainerOptions = { ...rest, init: true, userns: 'private', stdio: 'pty' };
    const real = kernel();
    /** Pid and pidfd of the child that is not there. */
    const played = { pid: 0x3ffffffe, pidfd: -1 };
    /** The kernel does all that this process asks for; only the child is played. */
    class Played extends RecordingKernel {
      override call(...[name, args]: Parameters<Kernel['call']>) {
        // Then it is another's number.
        if (name === 'close' && args[0] === played.pidfd) played.pidfd = -1;
        const plays = name === 'waitid' && Object.values(played).includes(args[1] as number);
        return plays ? super.call(name, args) : real.call(name, args);
      }
      override launch(plan: LaunchPlan) {
        if (!plan.steps().some((step) => step.syscall.startsWith('execve'))) return real.launch(plan);
        const pidfd = (number: number) => {
          played.pidfd = number;
          plan.pidfd(number);
        };
        return super.launch({ ...plan, pidfd });
      }
    }
    for (const [options, most] of [
      [everything, Number.POSITIVE_INFINITY],
      // Into cgroups, which come first.
      [full, 12],
    ] as const) {
      const before = ledger();
      let steps = 1;
      for (let index = 1; index <= Math.min(steps, most); index += every) {
        const player = new Played().failStep(index, 'EIO');
        const error = await refused(() => player.run(() => run(options)));
        steps = error.step?.of ?? 0;
        const failed = player.launches[0]?.steps[index - 1];
        expect(error, `step ${index}`).toMatchObject({
          code: 'EIO',
          syscall: failed?.syscall,
          step: { index, phase: failed?.phase },
        });
      }
      expect(steps).toBeGreaterThan(300);
      expect(difference(before, ledger())).toEqual([]);
    }
  }, 120_000);

  it('says which of this process’s own calls fails, and leaves nothing', async () => {
    const real = kernel();
    const once = async (options: ContainerOptions, fail: number) => {
      let calls = 0;
      let failed: SyscallName | undefined;
      const restore = replaceKernel({
        launch: (plan) => real.launch(plan),
        call: (name, args) => {
          if (!untouched.has(name)) calls += 1;
          if (calls !== fail || failed || untouched.has(name)) return real.call(name, args);
          failed = name;
          // What gives something back does so in any case.
          if (name === 'close' || name === 'munmap') real.call(name, args);
          return name === 'waitid' ? -4 : name === 'unlinkat' ? -16 : -12;
        },
      });
      let outcome: KernelError | string;
      try {
        const box = await run({ ...options, command: ['sh', '-c', look], stdio: ['ignore', 'pipe', 'inherit'] });
        outcome = '';
        for await (const chunk of box.child.stdout ?? []) outcome += chunk;
        await box.exited;
      } catch (error) {
        outcome = error as KernelError;
      } finally {
        restore();
      }
      return { outcome, failed };
    };
    for (const [options, stride] of [
      [full, every],
      [{ ...full, init: true, userns: 'private' as const }, everyThird],
    ] as const) {
      const { outcome: healthy } = await once(options, 0);
      expect(healthy).toContain('sweep');
      for (let nth = 1; ; nth += stride) {
        const before = ledger();
        const { outcome, failed } = await once(options, nth);
        if (failed === undefined) break;
        const label = `call ${nth}, ${failed}`;
        if (typeof outcome === 'string') expect(outcome, label).toBe(healthy);
        else {
          expect(KernelError.is(outcome), `${label}: ${outcome}`).toBe(true);
          expect(outcome.syscall, label).toBe(failed.replace('mkdirat', 'mkdir'));
        }
        expect(await settled(before), label).toEqual([]);
      }
    }
  }, 120_000);
});

/** What differs from before, once Node's own sockets are gone. */
async function settled(before: ReturnType<typeof ledger>): Promise<string[]> {
  let left = difference(before, ledger());
  for (let i = 0; left.length > 0 && i < 20; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    left = difference(before, ledger());
  }
  return left;
}

const MANY = 300;

describe.skipIf(!root || !strace)('a start under fault injection [needs root, strace]', () => {
  it('ends in an error that names the call, or in a container like any other', async () => {
    await using driver = await Driver.start();
    const { child, shared } = await driver.count(full);
    expect(child.get('move_mount')).toBeGreaterThan(10);
    const { view: healthy } = await driver.try({ syscall: 'getpid', before: 0, options: full });
    for (const [name, count] of child) {
      const error = errors[name] ?? 'EPERM';
      const at = (place: number, before: number) => async () => {
        const label = `${name} ${place} of ${count}: ${error}`;
        const outcome = await driver.try({ syscall: name, before, options: full });
        expect(outcome.left, label).toEqual([]);
        if (outcome.error) expect(outcome.error, label).toMatchObject({ code: error, syscall: name });
        else expect(outcome.view, label).toBe(healthy);
      };
      const places = Array.from({ length: Math.ceil(count / everyThird) }, (_, i) => 1 + i * everyThird);
      const fail = (when: number, action: () => Promise<void>) =>
        driver.inject(`${name}:error=${error}:when=${when}`, name, action);
      if (name === 'execve' || name === 'clone3' || name === 'exit') {
        // One more in front of the real one would be another program.
        for (const place of places) await fail(place, at(place, 0));
      } else if (shared.has(name)) {
        // Node itself makes such calls too, but not so many in one start.
        for (const place of places) await fail(count + MANY, at(place, count + MANY - place));
      } else {
        await fail(count, async () => {
          for (const place of places) await at(place, count - place)();
        });
      }
    }
  }, 300_000);

  it('tells that the child was killed, wherever that happens', async () => {
    await using driver = await Driver.start();
    for (const [name, count] of [
      ['fsopen', 3],
      ['move_mount', 9],
      ['pivot_root', 1],
      ['close_range', 1],
      ['execve', 2],
    ] as const) {
      await driver.inject(`${name}:signal=SIGKILL:when=${count}`, name, async () => {
        const outcome = await driver.try({ syscall: 'getpid', before: 0, options: full });
        expect(outcome.left, name).toEqual([]);
        // A search in PATH has tried to execute by then, which is where a program of its own begins.
        if (name === 'execve') expect(outcome.view).toBe('exit SIGKILL\n');
        else
          expect(outcome.error, name).toMatchObject({ message: expect.stringContaining('signal 9 ended the child') });
      });
    }
  }, 60_000);
});

/** A process that starts containers on demand, and that strace looks at. */
class Driver {
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;

  private constructor() {
    const script = join(import.meta.dirname, 'sweep.driver.ts');
    this.#process = spawn(process.execPath, [...fromSources, script]);
    this.#process.stderr.pipe(process.stderr);
    this.#lines = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  static async start(): Promise<Driver> {
    const driver = new Driver();
    await driver.#line();
    return driver;
  }

  async try(work: Case): Promise<Outcome> {
    this.#process.stdin.write(`${JSON.stringify(work)}\n`);
    return JSON.parse(await this.#line()) as Outcome;
  }

  /** Lets calls fail while something runs. */
  async inject(what: string, trace: string, action: () => Promise<void>, log = '/dev/null'): Promise<void> {
    const args = ['-f', '-o', log, '-e', `trace=${trace}`, ...(what ? ['-e', `inject=${what}`] : [])];
    const tracer = spawn('strace', [...args, '-p', String(this.#process.pid)], { stdio: ['ignore', 'ignore', 'pipe'] });
    const gone = new Promise((resolve) => tracer.once('exit', resolve));
    try {
      // It goes on to tell of every child, and ends where it cannot.
      await new Promise((resolve) => tracer.stderr.on('data', resolve));
      await action();
    } finally {
      tracer.kill('SIGINT');
      await gone;
    }
  }

  /** How often the child of a start makes which call before its program runs, as strace sees it. */
  async count(options: ContainerOptions): Promise<{ child: Map<SyscallName, number>; shared: Set<string> }> {
    const log = join(folder, 'log');
    await this.inject('', 'all', async () => void (await this.try({ syscall: 'getpid', before: 0, options })), log);
    const lines = readFileSync(log, 'utf8').split('\n');
    const pid = lines.find((line) => / pivot_root\(/.test(line))?.split(' ')[0];
    const child = new Map<SyscallName, number>();
    const shared = new Set<string>();
    let before = true;
    for (const line of lines) {
      const [, who, name] = /^(\d+) +(\w+)\(/.exec(line) ?? [];
      if (name && who !== pid) shared.add(name);
      if (name && who === pid && before) child.set(name as SyscallName, (child.get(name as SyscallName) ?? 0) + 1);
      if (line.startsWith(`${pid} `) && /execve.* = 0$/.test(line)) before = false;
    }
    return { child, shared };
  }

  #line = async (): Promise<string> => {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error('the driver ended');
    return value;
  };

  async [Symbol.asyncDispose](): Promise<void> {
    const gone = new Promise((resolve) => this.#process.once('exit', resolve));
    this.#process.stdin.end();
    await gone;
  }
}
