import { type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { command } from '../testing/command.js';

const long = process.env.ISO_LONG !== undefined;
const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
const state = join(folder, 'state');
const env = { ...process.env, ISO_ROOT: state };
afterAll(() => {
  const left = iso('ps', '-aq').stdout.split('\n').filter(Boolean);
  if (left.length) iso('rm', '-f', ...left);
  rmSync(folder, { recursive: true, force: true });
}, 120_000);

function iso(...args: string[]): SpawnSyncReturns<string> {
  return spawnSync(process.execPath, [...command, ...args], { encoding: 'utf8', env, timeout: 180_000 });
}

/** What it prints, where nothing is wrong. */
function ok(...args: string[]): string {
  const { status, stdout, stderr } = iso(...args);
  expect([args, stderr, status]).toEqual([args, '', 0]);
  return stdout;
}

/** Beside others. */
async function start(args: string[], input?: string): Promise<{ status: number | null; stdout: string }> {
  const child = spawn(process.execPath, [...command, ...args], { env, stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const [stdout, [status]] = await Promise.all([text(child.stdout), once(child, 'exit')]);
  return { status: status as number | null, stdout };
}

const record = (id: string) => join(state, 'containers', id.trim());
const read = (id: string) =>
  JSON.parse(readFileSync(join(record(id), 'state.json'), 'utf8')) as { pid: number; cgroup?: string };
const statusOf = (pid: number | string, key: string) =>
  new RegExp(`^${key}:\\s*(.*)$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
const isThere = (pid: number | string) => existsSync(`/proc/${pid}`) && !/^[ZX]/.test(statusOf(pid, 'State') ?? 'X');

async function until(done: () => boolean, seconds = 20): Promise<void> {
  const end = Date.now() + seconds * 1000;
  // What is so may be over when it is looked at again.
  let seen = done();
  for (; !seen && Date.now() < end; seen = done()) await sleep(50);
  expect(seen).toBe(true);
}

interface Told {
  Action: string;
  timeNano: number;
  Actor: { Attributes: Record<string, string> };
}

function events(container: string, ...filters: string[]): Told[] {
  const words = filters.flatMap((filter) => ['--filter', filter]);
  const lines = ok(
    'events',
    '--since',
    '1h',
    '--until',
    '0s',
    '--format',
    'json',
    '--filter',
    `container=${container}`,
    ...words,
  );
  return lines
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Told);
}

const loop = "trap 'echo bye; exit 4' USR1; echo up; while :; do sleep 0.05; done";

describe('the life of a container', () => {
  it('is made, started, stopped, started again, and removed', async () => {
    const id = ok(
      'create',
      '--name',
      'a',
      '-l',
      'x=y',
      '--stop-signal',
      'USR1',
      '--cidfile',
      join(folder, 'cid'),
      '/',
      'sh',
      '-c',
      loop,
    );
    expect(id).toMatch(/^[0-9a-f]{64}\n$/);
    expect(readFileSync(join(folder, 'cid'), 'utf8')).toBe(id.trim());
    expect(ok('ps', '-a', '--format', '{{.Names}} {{.Status}} {{.State}}')).toBe('a Created created\n');
    expect(ok('ps', '-q')).toBe('');
    expect(ok('start', 'a')).toBe('a\n');
    const { pid } = read(id);
    // Judged by the kernel: a supervisor in a session of its own, nowhere in particular, with nobody's descriptors.
    const supervisor = Number(statusOf(pid, 'PPid'));
    expect(readFileSync(`/proc/${supervisor}/stat`, 'utf8').split(') ').at(-1)?.split(' ')[3]).toBe(String(supervisor));
    expect(readlinkSync(`/proc/${supervisor}/cwd`)).toBe('/');
    const open = readdirSync(`/proc/${supervisor}/fd`).map((fd) => readlinkSync(`/proc/${supervisor}/fd/${fd}`));
    expect(
      open.filter(
        (path) =>
          path.startsWith('/') && !path.startsWith(record(id)) && !/^\/(dev|proc|memfd|sys\/fs\/cgroup)/.test(path),
      ),
    ).toEqual([]);
    expect(ok('ps', '--filter', 'label=x=y', '--format', 'table {{.Names}}\t{{.Status}}')).toMatch(
      /^NAMES +STATUS\na +Up .*\n$/,
    );
    expect(ok('start', 'a')).toBe('a\n');
    expect(ok('top', 'a')).toMatch(/^UID +PID .*CMD\n\S+ .*sh -c trap/);
    await until(() => ok('logs', 'a') === 'up\n');
    expect(ok('stop', 'a')).toBe('a\n');
    expect(isThere(pid)).toBe(false);
    await until(() => !isThere(supervisor));
    expect(ok('wait', 'a')).toBe('4\n');
    expect(ok('logs', 'a')).toBe('up\nbye\n');
    expect(ok('ps', '-a', '--filter', 'status=exited', '--format', '{{.Status}}')).toMatch(/^Exited \(4\) .* ago\n$/);
    expect(ok('restart', 'a')).toBe('a\n');
    expect(iso('rm', 'a')).toMatchObject({
      status: 125,
      stderr: expect.stringContaining('stop it before it is removed'),
    });
    expect(ok('rename', 'a', 'b')).toBe('');
    expect(ok('kill', 'b')).toBe('b\n');
    expect(
      ok('inspect', '-f', '{{.Name}} {{.State.Status}} {{.State.ExitCode}} {{index .Config.Labels "x"}}', 'b'),
    ).toBe('/b exited 137 y\n');
    expect(ok('rm', 'b')).toBe('b\n');
    expect(existsSync(record(id))).toBe(false);
    expect(events(id.trim()).map(({ Action }) => Action)).toEqual(
      'create start kill die stop start restart rename kill die destroy'.split(' '),
    );
  }, 60_000);

  it('is left to itself with the exit code of its start', async () => {
    expect(iso('run', '-d', '--name', 'none', '/', 'no-such-command').status).toBe(127);
    expect(iso('run', '-d', '/', '/etc/passwd').status).toBe(126);
    expect(iso('run', '-d', '/no/such/root')).toMatchObject({ status: 125, stdout: '' });
    expect(ok('inspect', '-f', '{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}', 'none')).toMatch(
      /^created 127 execve/,
    );
    expect(iso('run', '--rm', '--restart', 'always', '/', 'true').stderr).toBe(
      'iso: conflicting options: --restart and --rm\n',
    );
    // In the foreground it has a supervisor too, and its output comes whole before its end.
    expect(iso('run', '--name', 'fore', '/', 'sh', '-c', 'echo out; echo err >&2; exit 3')).toMatchObject({
      status: 3,
      stdout: 'out\n',
      stderr: 'err\n',
    });
    expect(await start(['start', '-ai', 'fore'])).toEqual({ status: 3, stdout: 'out\n' });
    const id = ok('run', '-d', '--rm', '/', 'sleep', '2');
    expect(await start(['wait', id.trim()])).toMatchObject({ stdout: '0\n' });
    await until(() => !existsSync(record(id)));
  }, 60_000);

  it('is started again as its policy says, at once at first and then later', async () => {
    ok('run', '-d', '--name', 'fails', '--restart', 'on-failure:2', '/', 'sh', '-c', 'exit 3');
    expect(ok('wait', 'fails')).toBe('3\n');
    expect(ok('inspect', '-f', '{{.RestartCount}} {{.State.Status}}', 'fails')).toBe('2 exited\n');
    const [first, second, third] = events('fails', 'event=start').map(({ timeNano }) => timeNano / 1e6) as [
      number,
      number,
      number,
    ];
    const [died, again] = events('fails', 'event=die').map(({ timeNano }) => timeNano / 1e6) as [number, number];
    // Docker's 100 ms, then twice as long.
    expect([second - died >= 95, third - again >= 195, second > first]).toEqual([true, true, true]);
    // What is ended by a command stays so, also while it waits for its next start.
    const ended = (name: string) => ok('inspect', '-f', '{{.State.Status}}', name);
    ok('run', '-d', '--name', 'always', '--restart', 'always', '/', 'sh', '-c', 'exit 1');
    await until(() => /restarting/.test(ended('always')));
    ok('stop', 'always');
    expect(ended('always')).toBe('exited\n');
    ok('rm', 'always');
    ok('run', '-d', '--name', 'unless', '--restart', 'unless-stopped', '/', 'sleep', '100');
    ok('kill', 'unless');
    expect(ended('unless')).toBe('exited\n');
    ok('start', 'unless');
    ok('rm', '-f', 'unless');
    expect(ok('ps', '-aq', '--filter', 'name=unless')).toBe('');
  }, 60_000);

  it.skipIf(!long)(
    `runs again after the machine does, as its policy says${long ? '' : ' [needs ISO_LONG=1]'}`,
    async () => {
      const policies = ['always', 'unless-stopped', 'on-failure', 'no'];
      const ids = policies.map((policy) =>
        ok('run', '-d', '--restart', policy, '-l', 'boot', '--name', policy, '/', 'sleep', '100'),
      );
      ids.push(ok('run', '-d', '--restart', 'unless-stopped', '-l', 'boot', '--name', 'ended', '/', 'sleep', '100'));
      ids.push(ok('run', '-d', '--restart', 'always', '-l', 'boot', '--name', 'ended-always', '/', 'sleep', '100'));
      ok('kill', 'ended', 'ended-always');
      const up = () => ok('ps', '--filter', 'label=boot', '--format', '{{.Names}}').split('\n').filter(Boolean).sort();
      const supervisors = policies.map((_, i) => Number(statusOf(read(ids[i] as string).pid, 'PPid')));
      // The machine goes down: one has its time, of the others not even the supervisor has.
      process.kill(supervisors[1] as number, 'SIGTERM');
      for (const i of [0, 2, 3]) process.kill(supervisors[i] as number, 'SIGKILL');
      await until(() => supervisors.every((pid) => !isThere(pid)));
      expect(up()).toEqual([]);
      expect(iso('start').stderr).toMatch(/^iso: no container is named/);
      expect(iso('start', '--all', 'always').status).toBe(125);
      expect(ok('ps', '-aq', '--filter', 'label=boot', '--filter', 'restart-policy=on-failure', '--no-trunc')).toBe(
        ids[2],
      );
      ok('start', '--filter', 'label=boot', '--filter', 'should-start-on-boot=true');
      // As docker: always is always.
      expect(up()).toEqual(['always', 'ended-always', 'unless-stopped']);
      ok('start', '--all', '--filter', 'restart-policy=no', '--filter', 'label=boot');
      expect(up()).toContain('no');
      ok('rm', '-f', ...ids.map((id) => id.trim()));
    },
    300_000,
  );

  it('has a log in docker’s form, which is rotated and followed', async () => {
    const script =
      'i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo "line $i"; done; sleep 0.3; echo problem >&2; printf end';
    const id = ok(
      'run',
      '-d',
      '--name',
      'talks',
      '--log-opt',
      'max-size=1k',
      '--log-opt',
      'max-file=3',
      '/',
      'sh',
      '-c',
      script,
    );
    ok('wait', 'talks');
    const files = readdirSync(record(id))
      .filter((name) => name.startsWith('log.json'))
      .sort();
    expect(files).toEqual(['log.json', 'log.json.1', 'log.json.2']);
    for (const name of files) {
      const content = readFileSync(join(record(id), name), 'utf8');
      expect(content.length).toBeLessThan(1024 + 100);
      for (const line of content.split('\n').filter(Boolean))
        expect(JSON.parse(line)).toEqual({
          log: expect.any(String),
          stream: expect.any(String),
          time: expect.stringMatching(/^\d{4}-.*Z$/),
        });
    }
    expect(iso('logs', '--tail', '3', 'talks')).toMatchObject({ stdout: 'line 60\nend', stderr: 'problem\n' });
    expect(ok('logs', '-t', '--tail', '1', 'talks')).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z end$/);
    expect(iso('logs', '--since', '1h', 'talks').stdout).toMatch(/^line \d+\n(line \d+\n)*line 60\nend$/);
    expect(iso('logs', '--until', '1h', 'talks').stdout).toBe('');
    // Also while what is read is renamed away.
    ok(
      'run',
      '-d',
      '--name',
      'goes-on',
      '--log-opt',
      'max-size=300',
      '--log-opt',
      'max-file=9',
      '/',
      'sh',
      '-c',
      'for i in 1 2 3 4 5 6 7 8; do echo "$i"; sleep 0.05; done',
    );
    expect((await start(['logs', '-f', 'goes-on'])).stdout).toBe('1\n2\n3\n4\n5\n6\n7\n8\n');
  }, 60_000);

  it('is attached to by several, and let go of by keys', async () => {
    ok(
      'run',
      '-d',
      '-i',
      '--name',
      'cat',
      '/',
      'sh',
      '-c',
      'echo up >&2; while read x; do echo "got $x"; [ "$x" = end ] && exit 5; done',
    );
    const other = start(['attach', '--no-stdin', 'cat']);
    await until(() => events('cat', 'event=attach').length === 1);
    // It has connected when it has told.
    await sleep(200);
    expect(await start(['attach', '--sig-proxy=false', 'cat'], 'one\nend\n')).toEqual({
      status: 5,
      stdout: 'got one\ngot end\n',
    });
    expect(await other).toEqual({ status: 5, stdout: 'got one\ngot end\n' });
    ok('run', '-d', '-it', '--name', 'term', '/', 'sh', '-c', 'stty -echo; while read x; do echo "got $x"; done');
    const typed = await start(['attach', '--detach-keys', 'ctrl-a,q', 'term'], 'hello\n\x01q');
    expect(typed.status).toBe(0);
    await until(() => ok('logs', 'term').includes('got hello\r\n'));
    expect(events('term').map(({ Action }) => Action)).toContain('detach');
    ok('rm', '-f', 'term');
    expect(iso('attach', 'cat').stderr).toBe('iso: container cat is not running\n');
  }, 60_000);

  it('has one of two who start it at once, and is not removed while it starts', async () => {
    const id = ok('create', '--name', 'race', '/', 'sleep', '100');
    const both = await Promise.all([start(['start', 'race']), start(['start', 'race'])]);
    const { pid } = read(id);
    expect(both.filter(({ status }) => status === 0).length).toBeGreaterThan(0);
    expect(events('race', 'event=start')).toHaveLength(1);
    expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).toBe('sleep\x00100\x00');
    ok('kill', 'race');
    const [started, removed] = await Promise.all([start(['start', 'race']), start(['rm', 'race'])]);
    // One of them was first.
    expect([started.status, removed.status].sort()).toEqual([0, 125]);
    expect(existsSync(record(id))).toBe(started.status === 0);
    ok('rm', '-f', ...(started.status === 0 ? ['race'] : []), ok('create', '/', 'true').trim());
  }, 60_000);

  it('dies with its supervisor: its exit code is known, and nothing is left', async () => {
    const id = ok('run', '-d', '--name', 'killed', '--restart', 'always', '/', 'sleep', '100');
    const { pid, cgroup } = read(id);
    const waiting = start(['wait', 'killed']);
    await sleep(300);
    process.kill(Number(statusOf(pid, 'PPid')), 'SIGKILL');
    expect((await waiting).stdout).toBe('137\n');
    expect(ok('ps', '-a', '--filter', 'name=killed', '--format', '{{.Status}}')).toMatch(/^Exited \(137\)/);
    expect(isThere(pid)).toBe(false);
    if (cgroup !== undefined) expect(existsSync(cgroup)).toBe(false);
    expect(ok('inspect', '-f', '{{.State.Error}}', 'killed')).toBe('the process that ran it was killed\n');
    ok('start', 'killed');
    ok('rm', '-f', 'killed');
    const gone = ok('run', '-d', '--rm', '/', 'sleep', '100');
    process.kill(Number(statusOf(read(gone).pid, 'PPid')), 'SIGKILL');
    await until(() => !ok('ps', '-aq', '--no-trunc').includes(gone));
    expect(existsSync(record(gone))).toBe(false);
  }, 60_000);

  it('is waited for beside others, and started again though it goes with its end', async () => {
    const script = "trap 'exit 3' USR1; echo up; while :; do sleep 0.05; done";
    const first = ok('run', '-d', '--name', 'first', '/', 'sleep', '100');
    const second = ok('run', '-d', '--rm', '--name', 'second', '/', 'sh', '-c', script);
    const { pid } = read(second);
    ok('restart', '-s', 'KILL', 'second');
    expect(read(second)).toMatchObject({ autoRemove: true, status: 'running' });
    expect(read(second).pid).not.toBe(pid);
    await until(() => ok('logs', '--tail', '1', 'second') === 'up\n');
    const waiting = start(['wait', 'first', 'second']);
    // As the kernel sees it: it waits for the first, and has opened what tells of the second.
    const { ino } = statSync(join(record(first), 'lock'));
    await until(() => new RegExp(`-> FLOCK.*:${ino} `).test(readFileSync('/proc/locks', 'utf8')));
    ok('kill', '-s', 'USR1', 'second');
    await until(() => !existsSync(record(second)));
    ok('kill', 'first');
    expect((await waiting).stdout).toBe('137\n3\n');
    ok('rm', '-f', 'second', 'first');
  }, 60_000);

  it('is held by less than 40 MB', async () => {
    // As it is installed: a loader of sources needs as much again.
    const cli = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));
    const { stdout, stderr } = spawnSync(process.execPath, [cli, 'run', '-d', '--name', 'light', '/', 'sleep', '100'], {
      encoding: 'utf8',
      env,
    });
    expect(stderr).toBe('');
    const supervisor = statusOf(read(stdout).pid, 'PPid') as string;
    await until(() => Number.parseInt(statusOf(supervisor, 'VmRSS') ?? '', 10) < 40_000, 5);
    ok('rm', '-f', 'light');
  }, 60_000);
});
