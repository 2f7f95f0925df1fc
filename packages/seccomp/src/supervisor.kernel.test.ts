import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LaunchProgram } from '@iso/sys';
import { describe, expect, it } from 'vitest';
import { inside, outcome } from '../../../test/confined.js';
import { type Action, defaultProfile, Filter, Learner, type Notification, Supervisor } from './index.js';

const python = spawnSync('python3', ['--version']).status === 0;
const notify = (calls: string[], more: { default?: Action } = {}) =>
  new Filter({ default: 'allow', ...more, rules: [{ calls, action: 'notify' }] });
const mkdir = notify(process.arch === 'x64' ? ['mkdir', 'mkdirat'] : ['mkdirat']);

describe('Supervisor', () => {
  it('answers in the place of the kernel, which makes nothing', async () => {
    using supervisor = new Supervisor(mkdir);
    const paths: string[] = [];
    const answers = supervisor.answer((call) => {
      paths.push(call.readString(call.args[call.call === 'mkdir' ? 0 : 1] as bigint));
      if (paths.length === 1) call.fail('EDOM');
      else call.return();
    });
    const script = 'mkdir /nowhere/a 2>&1 || mkdir /nowhere/b && ls /nowhere 2>&1 || :';
    const text = await inside(supervisor, script);
    await answers;
    expect(text).toMatch(/out of domain.*\n.*\/nowhere.*No such file/);
    expect(paths).toEqual(['/nowhere/a', '/nowhere/b']);
  });

  it('lets a call through, and tells of it', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'iso-seccomp-'));
    try {
      using supervisor = new Supervisor(mkdir);
      const seen: Notification[] = [];
      const answers = supervisor.answer((call) => {
        expect(call.valid).toBe(true);
        expect(readFileSync(`/proc/${call.pid}/comm`, 'utf8')).toBe('mkdir\n');
        seen.push(call);
        call.continue();
      });
      expect(await inside(supervisor, `mkdir ${folder}/made && ls ${folder}`)).toBe('made\n');
      await answers;
      const [call] = seen;
      expect(call?.call).toMatch(/^mkdir/);
      expect(call?.foreign).toBe(false);
      expect(call?.args).toHaveLength(6);
      expect(call?.valid).toBe(false);
      expect(() => call?.fail('EPERM')).toThrow(expect.objectContaining({ reason: 'answered' }));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('gives its listener away, and is closed then', async () => {
    using supervisor = new Supervisor(mkdir);
    const released = supervisor.release();
    const text = inside(supervisor, 'mkdir /nowhere/a 2>&1 || :');
    const listener = await released;
    // What nobody listens for is not there.
    expect(listener?.closed).toBe(false);
    for await (const _ of supervisor) expect.unreachable();
    listener?.close();
    expect(await text).toMatch(/not implemented/);
    expect(await supervisor.release()).toBeUndefined();
    using never = new Supervisor(mkdir);
    const nothing = never.release();
    never.close();
    expect(await nothing).toBeUndefined();
  });

  it.skipIf(!python)('opens in the place of a process [needs python3]', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'iso-seccomp-'));
    writeFileSync(join(folder, 'text'), 'from outside');
    const file = openSync(join(folder, 'text'), 'r');
    try {
      using supervisor = new Supervisor(notify(['name_to_handle_at']));
      const numbers: number[] = [];
      const answers = supervisor.answer((call) => {
        numbers.push(call.addFd(file, { at: 77, closeOnExec: false }));
        numbers.push(call.returnFd(file));
      });
      const number = process.arch === 'x64' ? 303 : 264;
      const program = `import ctypes, os; n = ctypes.CDLL(None).syscall(${number}); print(n, os.get_inheritable(n), os.pread(77, 99, 0).decode())`;
      const text = await inside(supervisor, `python3 -c '${program}'`);
      await answers;
      expect(numbers[0]).toBe(77);
      expect(text).toBe(`${numbers[1]} False from outside\n`);
    } finally {
      closeSync(file);
      rmSync(folder, { recursive: true });
    }
  });

  it('never blocks the loop, and waits for answers that take their time', async () => {
    using supervisor = new Supervisor(mkdir);
    let turns = 0;
    const ticker = setInterval(() => turns++, 5);
    const answers = supervisor.answer(async (call) => {
      await sleep(100);
      call.return();
    });
    await inside(supervisor, 'mkdir /nowhere/a & mkdir /nowhere/b & wait');
    await answers;
    clearInterval(ticker);
    expect(turns).toBeGreaterThan(5);
  });

  it('is asked about the exec itself, while the launch waits', async () => {
    using supervisor = new Supervisor(notify(['execve']));
    const seen: string[] = [];
    const answers = supervisor.answer((call) => {
      seen.push(call.readString(call.args[0] as bigint));
      if (seen.length < 3) call.continue();
      else call.fail('EACCES');
    });
    const text = await inside(supervisor, '/bin/echo one; /bin/echo two 2>/dev/null || echo refused');
    await answers;
    expect(seen).toEqual(['/bin/sh', '/bin/echo', '/bin/echo']);
    expect(text).toBe('one\nrefused\n');
  });

  it('tells of a refused exec as of any other', async () => {
    using supervisor = new Supervisor(notify(['execve']));
    const answers = supervisor.answer((call) => call.fail('EXDEV'));
    await expect(inside(supervisor, 'true')).rejects.toMatchObject({ code: 'EXDEV', syscall: 'execve' });
    await answers;
  });

  it('hands the listener over though its filter allows nothing', async () => {
    const filter = new Filter({ default: 'notify', foreign: 'kill-process' });
    using supervisor = new Supervisor(filter);
    const calls = new Set<string | undefined>();
    const answers = supervisor.answer((call) => {
      calls.add(call.call);
      call.continue();
    });
    expect(await inside(supervisor, 'echo hello')).toBe('hello\n');
    await answers;
    expect(calls).toContain('execve');
    expect(calls).toContain('write');
    // Not the handing over, which nobody could have answered.
    expect(calls).not.toContain('sendmsg');
  });

  it('lets nobody else through where the listener went', async () => {
    const filter = new Filter({ default: 'allow', rules: [{ calls: ['sendmsg'], action: 'notify' }] });
    using supervisor = new Supervisor(filter);
    const answers = supervisor.answer((call) => call.fail('EDOM'));
    const program = `import socket; a, b = socket.socketpair(); a.sendmsg([b"x"])`;
    const text = await inside(supervisor, `python3 -c '${program}' 2>&1 | tail -1`);
    await answers;
    if (python) expect(text).toMatch(/out of domain/);
  });

  it('can be iterated, aborted, and iterated again', async () => {
    using supervisor = new Supervisor(mkdir);
    await expect(async () => {
      for await (const _ of supervisor.notifications({ signal: AbortSignal.timeout(20) })) throw new Error('before');
    }).rejects.toMatchObject({ name: 'TimeoutError' });
    const ended = inside(supervisor, 'mkdir /nowhere/a; mkdir /nowhere/b; mkdir /nowhere/c; echo ended');
    let count = 0;
    for await (const call of supervisor) {
      call.return();
      if (++count === 2) break;
    }
    await expect(async () => {
      for await (const call of supervisor.notifications({ signal: AbortSignal.timeout(300) })) {
        count++;
        call.return();
      }
      AbortSignal.abort().throwIfAborted();
    }).rejects.toThrow();
    expect(count).toBe(3);
    expect(await ended).toBe('ended\n');
  });

  it('fails calls with EPERM whose answer failed, and says so in the end', async () => {
    using supervisor = new Supervisor(mkdir);
    const answers = supervisor.answer(() => {
      throw new Error('no idea');
    });
    answers.catch(() => {});
    expect(await inside(supervisor, 'mkdir /nowhere/a 2>&1 || :')).toMatch(/not permitted/);
    await expect(answers).rejects.toThrow('no idea');
  });

  it('fails what waits and what comes with ENOSYS once it is closed', async () => {
    const supervisor = new Supervisor(mkdir);
    const answers = supervisor.answer(async () => {
      supervisor.close();
      supervisor.close();
    });
    expect(await inside(supervisor, 'mkdir /nowhere/a 2>&1; mkdir /nowhere/b 2>&1 || :')).toMatch(
      /^(.*not implemented\n){2}$/,
    );
    await answers;
  });

  it('tells who no longer waits', async () => {
    using supervisor = new Supervisor(mkdir);
    const errors: unknown[] = [];
    const answers = supervisor.answer(async (call) => {
      process.kill(call.pid, 'SIGKILL');
      for (let i = 0; i < 200 && call.valid; i++) await sleep(5);
      try {
        call.return();
      } catch (error) {
        errors.push(error);
      }
    });
    await inside(supervisor, 'mkdir /nowhere/a; :');
    await answers;
    expect(errors).toEqual([expect.objectContaining({ code: 'ERR_SECCOMP', reason: 'gone' })]);
  });

  it('leaves nothing of a launch that fails, or never was', async () => {
    const supervisor = new Supervisor(mkdir);
    await expect(outcome(supervisor, ['/nowhere'])).rejects.toMatchObject({ code: 'ENOENT' });
    await supervisor.answer(() => {});
    const other = new Supervisor(mkdir);
    const program = new LaunchProgram();
    other.confine(program);
    expect(program.explain()).toMatch(
      /seccomp\(SECCOMP_SET_MODE_FILTER, 8, <\d+ instructions>\)\n.*sendmsg\(\d+, {SCM_RIGHTS/,
    );
    program.finish('failed');
    await other.answer(() => {});
    expect(() => other.confine(new LaunchProgram())).toThrow(/for one launch/);
    expect(() => new Supervisor(new Filter({ default: 'allow' }))).toThrow(/does not notify/);
  });
});

describe('Learner', () => {
  it('lets everything through and tells what would not have been', async () => {
    const learner = new Learner(
      new Filter({ default: 'allow', rules: [{ calls: ['uname', 'execve'], action: { errno: 'EPERM' } }] }),
    );
    expect(await inside(learner, 'uname; uname')).toBe('Linux\nLinux\n');
    await learner.finished;
    const found = learner.denied.map(({ call, action, count }) => ({ call, action, count }));
    const action = { errno: 'EPERM' };
    expect(found).toEqual([
      { call: 'execve', action, count: 3 },
      { call: 'uname', action, count: 2 },
    ]);
  });

  it('finds nothing where the default profile is enough', async () => {
    const learner = new Learner(defaultProfile.filter());
    expect(await inside(learner, 'ls -d /; unshare -U true; echo')).toBe('/\n\n');
    await learner.finished;
    const calls = new Set(learner.denied.map(({ call }) => call));
    expect(calls.has('unshare')).toBe(true);
    for (const call of calls) expect(['unshare', 'clone3', undefined]).toContain(call);
  });
});
