import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { attempt, CLONE, errand, Fd, LaunchProgram, launch, launchAsync, park, StringArray } from '../index.js';
import { type Build, children, field, finished, memory, programOf, root, thrownBy } from './fixture.js';

it.skipIf(!root)('clones twice to join a pid namespace, and leaves nothing of either child [needs root]', () => {
  const parked = park(CLONE.NEWPID);
  const namespace = Fd.open(`/proc/${parked.pid}/ns/pid`);
  const before = memory();
  const enter = (more: Build, argv?: string[]) =>
    launch(
      programOf((program) => {
        program.join(namespace, CLONE.NEWPID);
        more(program);
      }, argv),
    );
  try {
    const launched = enter(() => {}, ['/bin/sleep', '60']);
    expect(field(readFileSync(`/proc/${launched.pid}/status`, 'utf8'), 'NSpid')).toMatch(/^\d+\t\d+$/);
    expect(field(readFileSync(`/proc/${launched.pid}/status`, 'utf8'), 'PPid')).toBe(String(process.pid));
    expect(children().length).toBe(before.children + 1);
    attempt('pidfd_send_signal', launched.pidfd, 9, null, 0);
    expect(finished(launched).signal).toBe(9);
    expect(thrownBy(() => enter((program) => program.step('cwd', 'chdir', ['/no/such'])))).toMatchObject({
      code: 'ENOENT',
      step: { index: 4, phase: 'cwd' },
    });
    const killed = thrownBy(() =>
      enter((program) => program.step('host', 'kill', [program.step('host', 'getpid', []), 9])),
    );
    expect(killed).toMatchObject({ syscall: 'kill', step: { index: 5 }, info: { signal: 9 } });
    expect(memory()).toMatchObject({ descriptors: before.descriptors, children: before.children });
  } finally {
    namespace.close();
    parked.end();
  }
});

describe.skipIf(!root)('two clones [needs root]', () => {
  const joined = () => Fd.open('/proc/self/ns/uts');
  /** A process whose second child stands still before its exec. */
  const standing = (uts: Fd, more = 0) => {
    const program = new LaunchProgram();
    program.join(uts, CLONE.NEWUTS, { exposed: false });
    program.unshare(CLONE.NEWPID | more);
    program.step('cwd', 'ppoll', [null, 0, null, null, 0]);
    program.step('exec', 'execve', ['/bin/true', new StringArray(['true']), new StringArray([])]);
    return program;
  };

  it('leave nothing of an errand', () => {
    const before = children();
    using uts = joined();
    const program = new LaunchProgram('errand');
    program.join(uts, CLONE.NEWUTS, { exposed: false });
    program.unshare(CLONE.NEWPID);
    const pid = program.step('host', 'getpid', []);
    errand(program);
    expect(pid.value).toBe(1);
    expect(children()).toEqual(before);
  });

  it('tell when the second is killed', () => {
    const before = children();
    using uts = joined();
    const program = new LaunchProgram('errand');
    program.join(uts, CLONE.NEWUTS, { exposed: false });
    program.unshare(CLONE.NEWIPC | CLONE.NEWPID);
    program.step('host', 'exit', [9]);
    expect(() => errand(program)).toThrow(/ended/);
    expect(children()).toEqual(before);
  });

  it('are both ended by an abort', async () => {
    const before = children();
    using uts = joined();
    const program = standing(uts);
    await expect(launchAsync(program, { signal: AbortSignal.timeout(200) })).rejects.toThrow(/timeout|aborted/i);
    expect(children()).toEqual(before);
  });

  it('are both ended when the first is killed while the second stands still', async () => {
    const before = children();
    using uts = joined();
    const program = standing(uts);
    const started = launchAsync(program, { signal: AbortSignal.timeout(20_000) });
    const settled = started.catch((error: unknown) => error);
    // Before the first of the two there is the one who waits in its clone.
    let all = children();
    for (let i = 0; all.length < before.length + 3 && i < 200; i++) {
      await sleep(10);
      all = children();
    }
    const [, first] = all
      .filter((pid) => !before.includes(pid))
      .map(Number)
      .sort((a, b) => a - b);
    process.kill(first as number, 'SIGKILL');
    expect(await settled).toMatchObject({ name: 'KernelError', info: { signal: 9 } });
    expect(children()).toEqual(before);
  });

  it('end at whatever moment they are aborted', async () => {
    const before = children();
    for (let i = 0; i < 60; i++) {
      using uts = joined();
      const program = standing(uts, CLONE.NEWNET);
      const stop = new AbortController();
      const started = launchAsync(program, { signal: stop.signal });
      const until = performance.now() + i / 30;
      while (performance.now() < until);
      stop.abort(new Error('enough'));
      await expect(started).rejects.toThrow('enough');
    }
    expect(children()).toEqual(before);
  });
});
