// Twenty-four containers at a time, for as long as ISO_CHURN seconds say (600), while supervisors, first processes and commands are killed at
// random: nothing is left of any, and of each the exit code is known. They have a network of their own, in a namespace of its own.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { command } from './testing/command.js';
import { lacking } from './testing/lacking.js';

const missing = process.env.ISO_LONG ? lacking('busybox', 'nsenter', 'ip') : ' [needs ISO_LONG=1]';
const SECONDS = Number(process.env.ISO_CHURN ?? 600);
const SLOTS = 24;
const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
const state = join(folder, 'state');
const prefix = `churn-${process.pid}`;
const env = { ...process.env, ISO_ROOT: state };

let holder: ChildProcess;
/** Commands that run, to be killed. */
const clis = new Set<ChildProcess>();
/** Names of containers that somebody was killed for. */
const hit = new Set<string>();
const complaints: string[] = [];
const counts = { started: 0, own: 0, killed: 0, supervisors: 0, firsts: 0, commands: 0 };

interface Result {
  status: number | null;
  stdout: string;
  stderr: string;
}

async function iso(args: readonly string[], { exposed = true } = {}): Promise<Result> {
  const child = spawn('nsenter', ['-t', String(holder.pid), '-n', process.execPath, ...command, ...args], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  if (exposed) clis.add(child);
  const result: Result = { status: null, stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => (result.stdout += chunk));
  child.stderr.on('data', (chunk) => (result.stderr += chunk));
  // Not `close`: what it has started may have its streams for longer.
  [result.status] = (await once(child, 'exit')) as [number | null];
  clis.delete(child);
  await sleep(10);
  return result;
}

/** Until nobody kills it. */
async function insist(...args: string[]): Promise<Result> {
  for (;;) {
    const result = await iso(args);
    if (result.status !== null) return result;
  }
}

const any = <T>(list: readonly T[]): T | undefined => list[Math.floor(Math.random() * list.length)];
const read = (path: string) => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
};

interface Known {
  id: string;
  name: string;
  status: string;
  pid?: number;
}

function records(): Known[] {
  if (!existsSync(join(state, 'containers'))) return [];
  return readdirSync(join(state, 'containers')).flatMap((id) => {
    const text = read(join(state, 'containers', id, 'state.json'));
    return text === '' ? [] : [JSON.parse(text) as Known];
  });
}

/** Kills one of three kinds. */
function strike(): void {
  const kind = Math.random();
  if (kind < 0.4) {
    const victim = any([...clis]);
    if (victim?.kill('SIGKILL')) counts.commands += 1;
    return;
  }
  const target = any(records().filter(({ status, pid }) => status === 'running' && pid !== undefined));
  if (!target) return;
  const parent = Number(/^PPid:\s*(\d+)/m.exec(read(`/proc/${target.pid}/status`))?.[1]);
  // A foreground container's is a command; of one that has just ended nobody knows whose the number is.
  const ours = read(`/proc/${parent}/cmdline`).includes(target.id) || [...clis].some(({ pid }) => pid === parent);
  if (!ours) return;
  hit.add(target.name);
  const victim = kind < 0.7 ? parent : (target.pid as number);
  try {
    process.kill(victim, 'SIGKILL');
    if (victim === parent) counts.supervisors += 1;
    else counts.firsts += 1;
  } catch {
    // It has ended.
  }
}

/** One container after the other. */
async function slot(number: number, end: number): Promise<void> {
  for (let i = 0; Date.now() < end; i++) {
    const name = `${prefix}-${number}-${i}`;
    const code = 1 + ((number * 7 + i) % 100);
    const seconds = (3 + Math.random() * Math.min(17, SECONDS / 4)).toFixed(1);
    const options = ['--name', name, ...(i % 3 === 0 ? ['-m', '64m', '--pids-limit', '50'] : [])];
    if (i % 4 === 1) options.push('--network', 'churn');
    if (i % 5 === 2) options.push('--restart', 'on-failure:1');
    const what = [i % 2 ? '/' : 'small', 'sh', '-c', `sleep ${seconds}; exit ${code}`];
    counts.started += 1;
    const right = (found: number | null, of: string) => {
      if (found === code) counts.own += 1;
      else if (found === 137 && hit.has(name)) counts.killed += 1;
      else complaints.push(`${name}: ${of} ${found}, not ${code}`);
    };
    if (number % 4 === 3 && !options.includes('--restart')) {
      const { status, stderr } = await iso(['run', '--rm', ...options, ...what]);
      if (status !== null) right(status, `run --rm ended with (${stderr.trim()})`);
      else await insist('rm', '-f', name);
      continue;
    }
    const foreground = number % 4 === 2;
    const made = await iso(['run', ...(foreground ? [] : ['-d']), ...options, ...what]);
    // Killed before it had handed it over, it was its runner.
    if (made.status === null) hit.add(name);
    if (foreground && made.status !== null) right(made.status, `run ended with (${made.stderr.trim()})`);
    if (Math.random() < 0.3)
      await iso([
        ...(any([
          ['exec', name, 'true'],
          ['logs', name],
          ['ps', '-a'],
          ['inspect', name],
        ] as const) ?? []),
      ]);
    if (Math.random() < 0.1) {
      hit.add(name);
      await iso([
        ...(any([
          ['stop', '-t', '1', name],
          ['kill', name],
          ['restart', '-t', '0', name],
        ] as const) ?? []),
      ]);
    }
    const waited = await insist('wait', name);
    // Whoever was killed before it was made has left none.
    if (waited.status === 125 && made.status === null && /no such container/.test(waited.stderr)) continue;
    if (waited.status !== 0) complaints.push(`${name}: wait: ${waited.stderr} after ${JSON.stringify(made)}`);
    else right(Number(waited.stdout), 'wait says');
    const { stdout } = await insist('inspect', '-f', '{{.State.Status}} {{.State.ExitCode}}', name);
    if (!/^(exited|created) \d+\n$/.test(stdout)) complaints.push(`${name}: inspect says ${stdout}`);
    await insist('rm', '-f', name);
  }
}

/** What nobody may leave. */
function left(): string[] {
  const inNetns = (...args: string[]) =>
    spawnSync('nsenter', ['-t', String(holder.pid), '-n', ...args], { encoding: 'utf8' }).stdout;
  const processes = readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid) && pid !== String(holder.pid))
    .flatMap((pid) => {
      const status = read(`/proc/${pid}/status`);
      const line = read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ');
      const zombie = /^State:\s*Z/m.test(status) && new RegExp(`^PPid:\\s*${process.pid}$`, 'm').test(status);
      const ours =
        line.includes(state) ||
        line.includes(prefix) ||
        new RegExp(`ISO_ROOT=${state}`).test(read(`/proc/${pid}/environ`));
      return zombie || ours ? [`process ${pid} ${/^State:\s*(\S)/m.exec(status)?.[1]} ${line}`] : [];
    });
  const table = readFileSync('/proc/self/mountinfo', 'utf8');
  const groups = table
    .split('\n')
    .filter((line) => / - cgroup2? /.test(line))
    .map((line) => `${line.split(' ')[4]}/iso`)
    .flatMap((path) => (existsSync(path) ? readdirSync(path).map((name) => `${path}/${name}`) : []))
    .filter((path) => path.includes(prefix) && statSync(path).isDirectory());
  const inodes = new Set(
    readdirSync(state, { recursive: true, encoding: 'utf8' }).map((name) =>
      String(statSync(join(state, name), { throwIfNoEntry: false })?.ino),
    ),
  );
  const locks = readFileSync('/proc/locks', 'utf8')
    .split('\n')
    .filter((line) => inodes.has(/:(\d+) \d/.exec(line)?.[1] ?? ''));
  return [
    ...processes,
    ...table.split('\n').filter((line) => line.includes(folder)),
    ...groups,
    ...locks,
    ...inNetns('ip', '-o', 'link')
      .split('\n')
      .map((line) => line.split(' ')[1] ?? '')
      .filter((name) => name && name !== 'lo:'),
    ...readdirSync(join(state, 'containers')).filter((name) => name !== 'lock'),
    ...readdirSync(state, { recursive: true, encoding: 'utf8' }).filter((name) =>
      /^snapshots.*(leases|writable|upper)\/./.test(name),
    ),
  ];
}

describe.skipIf(missing)(`containers whose processes are killed at random${missing}`, () => {
  beforeAll(async () => {
    holder = spawn('unshare', ['-n', 'sh', '-c', 'ip link set lo up; echo ready; exec sleep 100000'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    await once(holder.stdout as NodeJS.ReadableStream, 'data');
    const root = join(folder, 'root');
    for (const name of ['bin', 'etc', 'proc', 'sys', 'dev']) mkdirSync(join(root, name), { recursive: true });
    spawnSync('sh', ['-c', `cd ${root}/bin && cp "$(command -v busybox)" sh && ln -s sh sleep && ln -s sh true`]);
    for (const args of [
      ['import', root, 'small'],
      ['network', 'create', 'churn'],
    ])
      expect(await iso(args, { exposed: false }), args.join(' ')).toMatchObject({ status: 0, stderr: '' });
  }, 120_000);
  afterAll(() => {
    holder?.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });

  it(
    'leave nothing, and their exit codes are known',
    async () => {
      const end = Date.now() + SECONDS * 1000;
      const slots = Promise.all(Array.from({ length: SLOTS }, (_, number) => slot(number, end)));
      while (Date.now() < end) {
        await sleep(100 + Math.random() * 700);
        strike();
      }
      await slots;
      const names = records().map(({ name }) => name);
      // Those of commands that were killed before they had told anybody.
      if (names.length) await iso(['rm', '-f', ...names], { exposed: false });
      expect(await iso(['network', 'rm', 'churn'], { exposed: false })).toMatchObject({ status: 0 });
      // Whoever makes a container removes what commands that were killed have left of making theirs.
      expect(await iso(['run', '--rm', 'small', 'true'], { exposed: false })).toMatchObject({ status: 0 });
      expect(await iso(['ps', '-aq'], { exposed: false })).toMatchObject({ status: 0, stdout: '', stderr: '' });
      let rest = left();
      for (let i = 0; rest.length > 0 && i < 50; i++) {
        await sleep(200);
        rest = left();
      }
      process.stderr.write(`${JSON.stringify(counts)}\n`);
      expect(complaints).toEqual([]);
      expect(rest).toEqual([]);
      expect(counts.supervisors * counts.firsts * counts.commands).toBeGreaterThan(0);
    },
    (SECONDS + 600) * 1000,
  );
});
