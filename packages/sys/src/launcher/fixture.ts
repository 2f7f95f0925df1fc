// What the launcher's tests share.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import { afterAll, expect } from 'vitest';
import { importSource } from '../../../../test/typescript.js';
import { type ExitStatus, Fd, KernelError, LaunchProgram, launch, PR, reap, StringArray, syscall } from '../index.js';

export const root: boolean = process.getuid?.() === 0;
export const userns: boolean = spawnSync('unshare', ['-U', 'true']).status === 0;
export const cgroup2: string | undefined = root
  ? /^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2 .*? rw/m.exec(readFileSync('/proc/self/mountinfo', 'utf8'))?.[1]
  : undefined;

/** A folder that is gone after the tests of a file. */
export function scratchFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'iso-sys-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  return folder;
}

export type Build = (program: LaunchProgram) => void;

export function programOf(build: Build = () => {}, argv = ['/bin/true']): LaunchProgram {
  const program = new LaunchProgram();
  build(program);
  program.step('exec', 'execve', [argv[0] as string, new StringArray(argv), new StringArray([])]);
  return program;
}

export function errandOf(build: Build): LaunchProgram {
  const program = new LaunchProgram('errand');
  build(program);
  return program;
}

export function finished({ pidfd }: { pidfd: Fd }): ExitStatus {
  const status = reap(pidfd, { block: true });
  pidfd.close();
  return status as ExitStatus;
}

/** What a launched program writes. */
export function textOf(argv: string[], build: Build = () => {}): string {
  const out = Fd.own(syscall('memfd_create', 'out', 1));
  try {
    const program = programOf((it) => {
      build(it);
      it.step('fds', 'dup3', [out, 1, 0]);
    }, argv);
    expect(finished(launch(program)).code).toBe(0);
    return readFileSync(`/proc/self/fd/${out.number}`, 'utf8');
  } finally {
    out.close();
  }
}

export function thrownBy(action: () => unknown): KernelError {
  try {
    action();
  } catch (error) {
    if (KernelError.is(error)) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

export const children = () =>
  readdirSync('/proc/self/task')
    .flatMap((task) => readFileSync(`/proc/self/task/${task}/children`, 'utf8').split(' '))
    .filter((pid) => pid !== '');

export const field = (status: string, name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1];

/** Everything of this process that a launch might change by mistake. */
export function self(): Record<string, unknown> & { namespaces: string[] } {
  const status = readFileSync('/proc/self/status', 'utf8');
  const names = 'Umask Uid Gid Groups SigBlk SigIgn SigCgt CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp';
  return {
    ...Object.fromEntries(names.split(' ').map((name) => [name, field(status, name)])),
    dumpable: syscall('prctl', PR.GET_DUMPABLE, 0, 0, 0, 0),
    cwd: readlinkSync('/proc/self/cwd'),
    root: readlinkSync('/proc/self/root'),
    limits: readFileSync('/proc/self/limits', 'utf8'),
    session: readFileSync('/proc/self/stat', 'utf8').split(') ')[1]?.split(' ').slice(1, 6),
    namespaces: [
      ...new Set(
        readdirSync('/proc/self/task').flatMap((task) =>
          readdirSync(`/proc/self/task/${task}/ns`).map(
            (name) => `${name} ${readlinkSync(`/proc/self/task/${task}/ns/${name}`)}`,
          ),
        ),
      ),
    ].sort(),
  };
}

setFlagsFromString('--expose-gc');
export const collectGarbage = runInNewContext('gc') as () => void;

export function memory() {
  const maps = readFileSync('/proc/self/maps', 'utf8').split('\n');
  return {
    lines: maps.length,
    shared: maps.filter((line) => line.includes('/dev/zero')).length,
    kilobytes: Number.parseInt(field(readFileSync('/proc/self/status', 'utf8'), 'VmSize') ?? '', 10),
    descriptors: readdirSync('/proc/self/fd').length,
    children: children().length,
  };
}

/** A worker thread that has the sources. */
export function worker(script: string, workerData: unknown): Worker {
  return new Worker(`${importSource(new URL('../index.ts', import.meta.url))}.then(async (sys) => {${script}});`, {
    eval: true,
    execArgv: ['--conditions=iso-source'],
    workerData,
  });
}
