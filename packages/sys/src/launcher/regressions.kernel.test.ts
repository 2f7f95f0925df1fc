import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { AT, CLONE, errand, F, Fd, FdWatcher, LaunchProgram, launch, launchAsync, O, StringArray } from '../index.js';

const root = process.getuid?.() === 0;
const descriptors = () => readdirSync('/proc/self/fd').length;
const children = () => readFileSync('/proc/thread-self/children', 'utf8').trim();

describe('a watcher', () => {
  it.each([
    ['EPERM', () => Fd.open('/etc/passwd')],
    ['EPERM', () => Fd.open(tmpdir(), { directory: true })],
  ])('says %s of what cannot be polled', (code, open) => {
    using fd = open();
    expect(() => new FdWatcher(fd, 'readable', () => {})).toThrow(expect.objectContaining({ code }));
  });

  it('says EBADF of a number that is not open', () => {
    expect(() => new FdWatcher(987_654, 'readable', () => {})).toThrow(expect.objectContaining({ code: 'EBADF' }));
  });

  it('is one of several on a descriptor', async () => {
    const script = `
      import { Fd, FdWatcher, syscall } from ${JSON.stringify(new URL('../index.ts', import.meta.url).href)};
      const fd = Fd.own(syscall('eventfd2', 1, 0));
      let calls = 0;
      const done = () => { if (++calls === 2) { a.close(); b.close(); fd.close(); console.log('both'); } };
      let one, two;
      const a = new FdWatcher(fd, 'readable', () => { if (!one) { one = true; done(); } });
      const b = new FdWatcher(fd, 'readable', () => { if (!two) { two = true; done(); } });`;
    expect(script && node(script)).toMatchObject({ stdout: 'both\n', status: 0 });
  });

  it('lets an exception of its callback through', () => {
    const script = `
      import { Fd, FdWatcher, syscall } from ${JSON.stringify(new URL('../index.ts', import.meta.url).href)};
      const fd = Fd.own(syscall('eventfd2', 1, 0));
      const watcher = new FdWatcher(fd, 'readable', () => { watcher.close(); throw new Error('seen'); });
      process.on('uncaughtException', (error) => { console.log(error.message); process.exit(3); });`;
    expect(node(script)).toMatchObject({ stdout: 'seen\n', status: 3 });
  });
});

function node(script: string): { stdout: string; stderr: string; status: number | null } {
  return spawnSync(
    process.execPath,
    ['--conditions=iso-source', '--import', 'tsx', '--input-type=module', '-e', script],
    { encoding: 'utf8' },
  );
}

describe('a program', () => {
  it('compiles to the same again and again', () => {
    const program = new LaunchProgram('errand');
    const context = program.step('host', 'fsopen', ['tmpfs', 1], { ignore: ['EPERM'] });
    program.step('host', 'fsconfig', [context, 1, 'bogus', '1', 0], { context });
    const text = program.explain();
    expect(program.explain()).toBe(text);
    expect(program.explain()).toBe(text);
  });

  it.each([
    ['prctl', [4n, 0]],
    ['clone3', [0, 88]],
    ['arch_prctl', [0x1002, 0]],
    ['pkey_alloc', [0, 0]],
    ['migrate_pages', [0, 0, 0, 0]],
  ] as const)('refuses %s', (name, args) => {
    expect(() => new LaunchProgram().step('host', name, args)).toThrow(TypeError);
  });

  it('refuses to end otherwise than it was made for, and gives back what it held', () => {
    const before = descriptors();
    let undone = 0;
    const errandProgram = new LaunchProgram('errand');
    errandProgram.undo(() => undone++);
    expect(() => launch(errandProgram)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
    const withoutExec = new LaunchProgram();
    withoutExec.undo(() => undone++);
    expect(() => launch(withoutExec)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
    expect(undone).toBe(2);
    expect(descriptors()).toBe(before);
  });

  it('closes copies of descriptors when an errand fails', () => {
    const before = descriptors();
    const program = new LaunchProgram('errand');
    const fd = program.step('host', 'openat', [AT.FDCWD, '/', O.PATH | O.CLOEXEC, 0]);
    program.step('host', 'fcntl', [fd, F.DUPFD_CLOEXEC, 100]);
    program.step('host', 'chdir', ['/no/such']);
    expect(() => errand(program)).toThrow(/ENOENT/);
    expect(descriptors()).toBe(before);
  });
});

describe.skipIf(!root)('two clones [needs root]', () => {
  const joined = () => Fd.open('/proc/self/ns/uts');

  it('leave nothing of an errand', () => {
    const before = children();
    using uts = joined();
    const program = new LaunchProgram('errand');
    program.join(uts, CLONE.NEWUTS, { exposed: false });
    program.unshare(CLONE.NEWPID);
    const pid = program.step('host', 'getpid', []);
    errand(program);
    expect(pid.value).toBe(1);
    expect(children()).toBe(before);
  });

  it('tell when the second is killed', () => {
    const before = children();
    using uts = joined();
    const program = new LaunchProgram('errand');
    program.join(uts, CLONE.NEWUTS, { exposed: false });
    program.unshare(CLONE.NEWIPC | CLONE.NEWPID);
    program.step('host', 'exit', [9]);
    expect(() => errand(program)).toThrow(/ended/);
    expect(children()).toBe(before);
  });

  it('are both ended by an abort', async () => {
    const before = children();
    using uts = joined();
    const program = new LaunchProgram();
    program.join(uts, CLONE.NEWUTS, { exposed: false });
    program.unshare(CLONE.NEWPID);
    program.step('cwd', 'ppoll', [null, 0, null, null, 0]);
    program.step('exec', 'execve', ['/bin/true', new StringArray(['true']), new StringArray([])]);
    await expect(launchAsync(program, { signal: AbortSignal.timeout(200) })).rejects.toThrow(/timeout|aborted/i);
    expect(children()).toBe(before);
  });

  it('leave the process dumpable, whichever threads launch at once', async () => {
    const script = `
      const { parentPort } = require('node:worker_threads');
      require('tsx/esm/api').register();
      import(${JSON.stringify(new URL('../index.ts', import.meta.url).href)}).then(({ CLONE, errand, Fd, LaunchProgram }) => {
        for (let i = 0; i < 40; i++) {
          const uts = Fd.open('/proc/self/ns/uts');
          const program = new LaunchProgram('errand');
          program.join(uts, CLONE.NEWUTS);
          errand(program);
          uts.close();
        }
        parentPort.postMessage('done');
      }, (error) => parentPort.postMessage(String(error)));`;
    const workers = Array.from(
      { length: 4 },
      () =>
        new Promise((resolve) => {
          const worker = new Worker(script, { eval: true, execArgv: ['--conditions=iso-source'] });
          worker.once('message', (message) => void worker.terminate().then(() => resolve(message)));
        }),
    );
    expect(await Promise.all(workers)).toEqual(['done', 'done', 'done', 'done']);
    const state = new LaunchProgram('errand');
    const dumpable = state.step('host', 'prctl', [3, 0, 0, 0, 0]);
    errand(state);
    expect(dumpable.value).toBe(1);
  });
});
