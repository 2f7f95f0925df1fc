import { spawn, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { command } from './testing/command.js';

const root = process.getuid?.() === 0;
const strace = spawnSync('strace', ['-V']).status === 0;

/** A child that has not executed its program yet shows the arguments of the process that made it. */
function processes(marker: string): string[] {
  return readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && commandLine(pid).includes(marker));
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

function children(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
      .split(' ')
      .filter((child) => child !== '');
  } catch {
    return [];
  }
}

async function until(done: () => boolean, seconds = 20): Promise<boolean> {
  const end = Date.now() + seconds * 1000;
  while (!done() && Date.now() < end) await sleep(10);
  return done();
}

/** Directories of cgroups, in every hierarchy, that a name stands in. */
function cgroups(name: string): string[] {
  const points = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => / - cgroup2? /.test(line))
    .map((line) => `${line.split(' ')[4]}/iso`);
  return points.flatMap((path) => {
    try {
      return readdirSync(path).filter((entry) => entry.startsWith(name));
    } catch {
      return [];
    }
  });
}

let number = 0;

/** Starts a container and kills Node at a moment; afterwards nothing of it runs, and the next run removes the rest. */
async function killed(
  options: string[],
  moment: (node: number, marker: string) => Promise<unknown>,
  tracer: string[] = [],
) {
  number += 1;
  const name = `killed-${process.pid}-${number}`;
  const marker = `98${process.pid}.${number}`;
  const limits = root ? ['--memory', '64m', '--pids-limit', '20'] : [];
  const run = [...command, 'run', '--rm', '--name', name, ...limits, ...options, '/', 'sleep', marker];
  const [file = '', ...args] = [...tracer, process.execPath, ...run];
  const started = spawn(file, args, { stdio: 'ignore' });
  const gone = new Promise((resolve) => started.once('exit', resolve));
  try {
    let node = started.pid as number;
    if (tracer.length) {
      // strace has other children at first, to try things out.
      const own = () =>
        children(started.pid as number).find((pid) => commandLine(pid).startsWith(`${process.execPath}\0`));
      await until(() => own() !== undefined);
      node = Number(own());
    }
    await moment(node, marker);
    process.kill(node, 'SIGKILL');
    expect(await until(() => processes(marker).length === 0), `${options} ${tracer} ${processes(marker)}`).toBe(true);
    await gone;
    expect(spawnSync(process.execPath, [...command, 'run', '--rm', '/', 'true']).status).toBe(0);
    expect(cgroups(name)).toEqual([]);
  } finally {
    for (const pid of processes(marker)) process.kill(Number(pid), 'SIGKILL');
  }
}

/** Where a child of a start may stand: what strace delays there, and options of the command. */
const steps: [step: string, ...options: string[]][] = [
  ['setresuid:delay_enter=700000:when=1', '--userns', 'private'],
  ['prctl:delay_exit=700000:when=1'],
  ['pwrite64:delay_enter=700000:when=1', '--init'],
  // These on the long run.
  ['fsopen:delay_enter=700000:when=2'],
  ['pivot_root:delay_enter=700000:when=1'],
  ['prctl:delay_enter=700000:when=1'],
  ['keyctl:delay_enter=700000:when=1'],
  ['execve:delay_enter=700000:when=1'],
  ['execveat:delay_enter=700000:when=1', '--init'],
];

describe('SIGKILL of Node', () => {
  it('takes a running container with it, and the next run removes its cgroup', async () => {
    const running = (_node: number, marker: string) => until(() => processes(marker).some((pid) => ownPid(pid)));
    await killed([], running);
    await killed(['--init'], running);
  }, 60_000);

  it('at any time of its start leaves nothing', async () => {
    for (let part = 0; part < 6; part++) {
      await killed([], async (node) => {
        // Its child is there, or Node is still getting ready.
        if (part > 1) await until(() => children(node).length > 0);
        await sleep(part === 0 ? 0 : part === 1 ? 100 : (part - 2) * 2);
      });
    }
  }, 120_000);

  it.skipIf(!strace)(
    'while its child stands at a step leaves nothing [needs strace]',
    async () => {
      for (const [step, ...options] of process.env.ISO_LONG ? steps : steps.slice(0, 3)) {
        const trace = `trace=${step.split(':')[0]}`;
        const tracer = ['strace', '-f', '-o', '/dev/null', '-e', trace, '-e', `inject=${step}`];
        const waiting = async (node: number) => {
          await until(() => children(node).length > 0);
          await sleep(200);
        };
        await killed(root ? options : options.filter((word) => !/userns|private/.test(word)), waiting, tracer);
      }
    },
    180_000,
  );
});

/** Whether it is the first process of a pid namespace. */
function ownPid(pid: string): boolean {
  try {
    return (
      /^NSpid:\t\d+\t\d+/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')) &&
      readFileSync(`/proc/${pid}/comm`, 'utf8') === 'sleep\n'
    );
  } catch {
    return false;
  }
}
