import { spawn as nodeSpawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AT, CLONE, errand, Fd, LaunchProgram, launch, O, PR, park, StringArray, syscallNumber } from '../index.js';
import { native } from '../raw/native.js';
import { errandOf, scratchFolder, thrownBy, userns } from './fixture.js';

const folder = scratchFolder();

describe('steps', () => {
  it('take results of earlier steps in every place', () => {
    const path = join(folder, 'source');
    writeFileSync(path, '0123456789');
    const program = new LaunchProgram('errand');
    const directory = program.step('host', 'openat', [AT.FDCWD, folder, O.DIRECTORY | O.CLOEXEC, 0]);
    const source = program.step('host', 'openat', [directory, 'source', O.RDWR | O.CLOEXEC, 0]);
    const number = (value: number) => program.step('host', 'lseek', [source, value, 0]);
    const mode = number(0o600);
    const copy = program.step('host', 'openat', [directory, 'copy', number(O.RDWR | O.CREAT), mode]);
    program.step('host', 'lseek', [source, number(2), number(0)]);
    const copied = program.step('host', 'copy_file_range', [source, null, copy, null, mode, number(0)]);
    program.step('host', 'ftruncate', [source, number(4)]);
    errand(program);
    for (const slot of [directory, source, copy]) closeSync(slot.value as number);
    // copy_file_range began at 0: the last step that moved the offset was its flags.
    expect(readFileSync(join(folder, 'copy'), 'utf8')).toBe('0123456789');
    expect(copied.value).toBe(10);
    expect(statSync(join(folder, 'copy')).mode & 0o777).toBe(0o600);
    expect(readFileSync(path, 'utf8')).toBe('0123');
  });

  it('fill memory that is read afterwards, or that later steps read', () => {
    const program = new LaunchProgram('errand');
    const ends = program.output(8);
    program.step('host', 'pipe2', [ends, O.CLOEXEC]);
    const name = program.output(390);
    program.step('host', 'uname', [name]);
    const fd = program.step('host', 'openat', [AT.FDCWD, folder, O.DIRECTORY | O.CLOEXEC, 0]);
    program.step('host', 'mkdirat', [fd, name, 0o700]);
    const untouched = program.output(5);
    errand(program);
    const [reader, writer] = [ends.bytes.readInt32LE(0), ends.bytes.readInt32LE(4)];
    expect(readlinkSync(`/proc/self/fd/${reader}`)).toMatch(/^pipe:/);
    expect(readlinkSync(`/proc/self/fd/${writer}`)).toBe(readlinkSync(`/proc/self/fd/${reader}`));
    for (const open of [reader, writer, fd.value as number]) closeSync(open);
    expect(name.bytes.length).toBe(390);
    expect(readdirSync(folder)).toContain(name.bytes.toString().split('\0')[0]);
    expect(untouched.bytes).toEqual(Buffer.alloc(5));
  });

  it('leave the slots of steps that were not reached without a value', () => {
    const program = new LaunchProgram('errand');
    const first = program.step('host', 'getppid', []);
    const failed = program.step('host', 'chdir', ['/no/such']);
    const never = program.step('host', 'getpid', []);
    thrownBy(() => errand(program));
    expect([first.value, failed.value, never.value]).toEqual([process.pid, -2, undefined]);
  });

  it('go on after ignored errors, and after no other', () => {
    const ignoring = (path: string, ignore: string[]) =>
      errand(errandOf((program) => program.step('cwd', 'chdir', [path], { ignore })));
    ignoring('/no/such', ['ENOENT']);
    ignoring('/no/such', ['EPERM', 'EACCES', 'EIO', 'EBUSY', 'EXDEV', 'ELOOP', 'ENOTDIR', 'ENOENT']);
    ignoring('/etc/passwd', ['*']);
    expect(thrownBy(() => ignoring('/etc/passwd', ['ENOENT', 'EPERM'])).code).toBe('ENOTDIR');
    expect(thrownBy(() => ignoring('/no/such', [])).code).toBe('ENOENT');
  });

  it('compare errors as a whole, also those that no program should see', () => {
    // 524 (ENOTSUPP) leaks from some drivers; its lower byte is that of ENOMEM.
    const filter = Buffer.alloc(32);
    const rows = [
      [0x20, 0, 0, 0],
      [0x15, 0, 1, syscallNumber('getpgid')],
      [0x06, 0, 0, 0x50000 + 524],
      [0x06, 0, 0, 0x7fff0000],
    ];
    for (const [i, [code, yes, no, k]] of (rows as [number, number, number, number][]).entries()) {
      filter.writeUInt16LE(code, i * 8);
      filter.set([yes, no], i * 8 + 2);
      filter.writeUInt32LE(k, i * 8 + 4);
    }
    const header = Buffer.alloc(16);
    header.writeUInt16LE(4, 0);
    header.writeBigUInt64LE(native().address(filter), 8);
    const run = (ignore: string[]) => {
      const program = new LaunchProgram('errand');
      program.step('privileges', 'prctl', [PR.SET_NO_NEW_PRIVS, 1, 0, 0, 0]);
      program.step('filter', 'prctl', [22, 2, header, 0, 0]);
      program.step('filter', 'getpgid', [0], { ignore, retry: { on: ignore, times: 2 } });
      errand(program);
    };
    expect(thrownBy(() => run(['ENOMEM']))).toMatchObject({ code: 'ENOTSUPP', syscall: 'getpgid' });
    expect(() => run(['*'])).not.toThrow();
  });

  it('are repeated until it works', async () => {
    const path = join(folder, 'slow');
    spawnSync('mkfifo', [path]);
    const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    const writer = nodeSpawn('sh', ['-c', `sleep 0.1; printf abc >${path}`]);
    const program = new LaunchProgram('errand');
    const out = program.output(3);
    const retry = { on: ['EINTR', 'EAGAIN'], times: 1e12 };
    const read = program.step('host', 'read', [fd, out, 3], { retry });
    errand(program);
    expect(read.value).toBe(3);
    expect(out.bytes.toString()).toBe('abc');
    closeSync(fd);
    await new Promise((resolve) => writer.on('close', resolve));
  });

  it('take the way that the kernel’s answers choose, however branches nest', () => {
    type Node = { dir: true } | { fails: boolean; tests: number; yes?: Node[]; no?: Node[] };
    const { nodes } = fc.letrec<{ nodes: Node[]; node: Node }>((tie) => ({
      nodes: fc.array(tie('node'), { maxLength: 3 }),
      node: fc.oneof(
        { depthSize: 'small', withCrossShrink: true },
        fc.constant({ dir: true as const }),
        fc.record(
          { fails: fc.boolean(), tests: fc.integer({ min: 1, max: 3 }), yes: tie('nodes'), no: tie('nodes') },
          { requiredKeys: ['fails', 'tests'] },
        ),
      ),
    }));
    let round = 0;
    fc.assert(
      fc.property(nodes, (tree) => {
        const base = join(folder, `tree${round++}`);
        mkdirSync(base);
        const program = new LaunchProgram('errand');
        const expected: string[] = [];
        let count = 0;
        const add = (list: readonly Node[], taken: boolean) => {
          for (const node of list) {
            if ('dir' in node) {
              const name = `d${count++}`;
              program.step('host', 'mkdirat', [AT.FDCWD, join(base, name), 0o700]);
              if (taken) expected.push(name);
              continue;
            }
            const { fails, tests, yes, no } = node;
            const test = () => {
              for (let i = 0; i < tests; i++) {
                // Some succeed with 0, some with another number; the last may fail.
                if (fails && i === tests - 1) program.step('host', 'chdir', ['/no/such']);
                else program.step('host', i % 2 ? 'getppid' : 'sched_yield', []);
              }
            };
            program.attempt('host', ['EACCES', 'ENOENT'], test, {
              ...(yes && { onSuccess: () => add(yes, taken && !fails) }),
              ...(no && { onError: () => add(no, taken && fails) }),
            });
          }
        };
        add(tree, true);
        errand(program);
        expect(readdirSync(base).sort()).toEqual(expected.sort());
        rmSync(base, { recursive: true });
      }),
      { numRuns: 200 },
    );
  });

  it('fail where a branch is not for their error', () => {
    const program = errandOf((it) =>
      it.attempt('host', ['ENOENT'], () => it.step('host', 'chdir', ['/etc/passwd']), { onError: () => {} }),
    );
    expect(thrownBy(() => errand(program))).toMatchObject({ code: 'ENOTDIR', step: { index: 1 } });
  });

  it('may be many, with long arguments', () => {
    const program = new LaunchProgram('errand');
    for (let i = 0; i < 2000; i++) program.step('host', 'mkdirat', [AT.FDCWD, '/'.repeat(500), 0], { ignore: ['*'] });
    const last = program.step('host', 'openat', [AT.FDCWD, 'é'.repeat(2000), 0, 0], { ignore: ['ENAMETOOLONG'] });
    errand(program);
    expect(last.value).toBe(-36);
  });

  it('are the same in a second launch of the same program', () => {
    const program = new LaunchProgram('errand');
    const pid = program.step('host', 'getpid', []);
    errand(program);
    const first = pid.value;
    errand(program);
    expect(pid.value).toBeGreaterThan(0);
    expect(pid.value).not.toBe(first);
  });

  describe.skipIf(!userns)('with a file system context [needs user namespaces]', () => {
    function bogus(ending: 'process' | 'errand') {
      const other = park(CLONE.NEWUSER | CLONE.NEWNS);
      const held = ['user', 'mnt'].map((name) => Fd.open(`/proc/${other.pid}/ns/${name}`));
      try {
        const program = new LaunchProgram(ending);
        program.join(held[0] as Fd, CLONE.NEWUSER);
        program.join(held[1] as Fd, CLONE.NEWNS);
        const context = program.step('mount', 'fsopen', ['tmpfs', 1]);
        const set = (key: string, value: string) =>
          program.step('mount', 'fsconfig', [context, 1, key, value, 0], { context, hint: 'look it up' });
        set('size', '1m');
        set('bogus', 'x');
        set('mode', '755');
        if (ending === 'errand') return thrownBy(() => errand(program));
        program.step('exec', 'execve', ['/bin/true', new StringArray([]), new StringArray([])]);
        return thrownBy(() => launch(program));
      } finally {
        for (const fd of held) fd.close();
        other.end();
      }
    }

    it.each(['process', 'errand'] as const)('fail with the words of the kernel (%s)', (ending) => {
      const error = bogus(ending);
      expect(error).toMatchObject({ code: 'EINVAL', syscall: 'fsconfig', step: { index: 6, phase: 'mount' } });
      expect(error.kernelMessage).toBe("tmpfs: Unknown parameter 'bogus'");
      expect(error.message).toContain("tmpfs: Unknown parameter 'bogus'");
      expect(error.hint).toBe('look it up');
    });
  });
});
