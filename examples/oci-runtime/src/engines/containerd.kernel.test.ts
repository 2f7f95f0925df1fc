// containerd judges, by its shim and ctr: what it is told of a container must be what has become of it.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Containerd } from '../testing/containerd.js';
import { Place } from '../testing/place.js';

const has = (program: string) => spawnSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' }).status === 0;
const missing = process.env.ISO_LONG
  ? [
      ...(process.getuid?.() === 0 ? [] : ['root']),
      ...(existsSync('/bin/busybox') ? [] : ['busybox-static']),
      ...(has('containerd') && has('ctr') ? [] : ['containerd']),
    ]
  : ['ISO_LONG=1'];
const needs = missing.length ? ` [needs ${missing.join(', ')}]` : '';
/** An emulated machine takes ten times as long. */
const SLOW_MS = 120_000;
const group = `/iso-test-${process.pid}`;
const ours = () =>
  execFileSync('find', ['/sys/fs/cgroup', '-name', `iso-test-${process.pid}`, '-type', 'd'], { encoding: 'utf8' })
    .split('\n')
    .filter((path) => path !== '');

describe.skipIf(needs)(
  `containerd${needs}`,
  () => {
    let place: Place;
    let on: Containerd;
    let root: string;
    const box = (...words: string[]) => ['--rootfs', ...words, '--cgroup', `${group}/box`, root, 'box'];
    const started = (...words: string[]) =>
      expect(on.run(['--detach', ...box(), ...words])).toMatchObject({ code: 0, stderr: '' });
    const status = () => /box +\d+ +(\w+)/.exec(on.ctr(['task', 'ls']).stdout)?.[1];
    /** The exit code of the last one, as containerd was told it. */
    const exit = () =>
      /.*"id":"box".*"exit_status":(\d+)/.exec(on.events.match(/.*\/tasks\/exit.*/g)?.at(-1) ?? '')?.[1] ?? '0';
    const until = (wanted: string) => expect.poll(status, { timeout: 20_000 }).toBe(wanted);

    beforeAll(() => {
      place = new Place();
      root = place.busybox();
      on = new Containerd(place);
    }, SLOW_MS);
    afterEach(() => {
      on.ctr(['task', 'kill', '--signal', 'SIGKILL', 'box']);
      on.ctr(['task', 'rm', '--force', 'box']);
      on.ctr(['container', 'rm', 'box']);
      expect(on.ctr(['container', 'ls', '--quiet']).stdout).toBe('');
      // What is above those of containers stays, and is this test's to remove.
      for (const path of ours()) rmdirSync(path);
    }, SLOW_MS);
    afterAll(() => {
      on.close();
      place.close();
    }, SLOW_MS);

    it.each([
      [0, 'true'],
      [3, 'exit 3'],
      [137, 'kill -KILL $$'],
    ])('exit code %i', (code, script) => {
      // Process 1 of a pid namespace hears of no signal of its own.
      expect(on.run(['--rm', ...box('--with-ns', `pid:/proc/${process.pid}/ns/pid`), 'sh', '-c', script]).code).toBe(
        code,
      );
    });

    it('what cannot be executed is an error, in words, and leaves nothing', () => {
      const { code, stderr } = on.run(['--rm', ...box(), '/nowhere']);
      expect(code).not.toBe(0);
      expect(stderr).toMatch(/OCI runtime create failed:.*nowhere.*ENOENT/);
    });

    it('streams, variables, a directory, a root that is read-only', () => {
      const words = ['--env', 'A=b c', '--cwd', '/tmp', '--read-only'];
      // ctr may see the end of its input before there is anything to pass it on to.
      const script = 'read line; echo $line; echo $A; pwd; touch /x';
      const said = on.run(['--rm', ...box(...words), 'sh', '-c', script], { input: 'in\n' });
      expect(said.stdout).toBe('in\nb c\n/tmp\n');
      expect(said.stderr).toMatch(/Read-only/);
    });

    it('a terminal', () => {
      const { stdout } = on.typed(['--rm', '--tty', ...box(), 'sh'], 'tty; ls -l /dev/console; exit 5\n');
      expect(stdout).toMatch(/\/dev\/pts\/0/);
      expect(stdout).toMatch(/crw.*\/dev\/console/);
    });

    it('detached: running, exec, ps, metrics, pause, resume, kill, delete with its code', async () => {
      started('sh', '-c', "trap 'exit 9' TERM; while :; do sleep 0.1; done");
      expect(status()).toBe('RUNNING');
      const exec = (id: string, ...words: string[]) => on.ctr(['task', 'exec', '--exec-id', id, 'box', ...words]);
      expect(exec('one', 'sh', '-c', 'echo inside; exit 4')).toMatchObject({ code: 4, stdout: 'inside\n' });
      expect(on.ctr(['task', 'exec', '--user', '65534:65534', '--exec-id', 'two', 'box', 'id', '-u']).stdout).toBe(
        '65534\n',
      );
      expect(exec('three', '/nowhere')).toMatchObject({ code: 1, stderr: expect.stringMatching(/nowhere/) });
      expect(on.ctr(['task', 'ps', 'box']).stdout).toMatch(/PID[\s\S]*\d+/);
      expect(on.ctr(['task', 'metrics', 'box']).stdout).toMatch(/memory/);
      expect(on.ctr(['task', 'pause', 'box'])).toMatchObject({ code: 0 });
      expect(status()).toBe('PAUSED');
      expect(on.ctr(['task', 'resume', 'box'])).toMatchObject({ code: 0 });
      expect(status()).toBe('RUNNING');
      expect(on.ctr(['task', 'kill', 'box'])).toMatchObject({ code: 0 });
      await until('STOPPED');
      expect(exit()).toBe('9');
      expect(on.ctr(['task', 'rm', 'box'])).toMatchObject({ code: 0 });
      expect(on.ctr(['container', 'rm', 'box'])).toMatchObject({ code: 0 });
    });

    it('all of its processes die where all are killed', async () => {
      const words = ['--with-ns', `pid:/proc/${process.pid}/ns/pid`];
      expect(on.run(['--detach', ...box(...words), 'sh', '-c', 'sleep 1000 & sleep 1000'])).toMatchObject({ code: 0 });
      expect(on.ctr(['task', 'kill', '--all', '--signal', 'SIGKILL', 'box'])).toMatchObject({ code: 0 });
      await until('STOPPED');
    });

    it('is killed while it is paused', async () => {
      started('sleep', '1000');
      expect(on.ctr(['task', 'pause', 'box'])).toMatchObject({ code: 0 });
      expect(on.ctr(['task', 'kill', '--signal', 'SIGKILL', 'box'])).toMatchObject({ code: 0 });
      await until('STOPPED');
    });

    it('memory: the limit is the kernel’s, and who passes it is killed, with an event', async () => {
      const words = box('--memory-limit', String(32 << 20));
      expect(on.run(['--detach', ...words, 'sh', '-c', 'sleep 1; exec tail /dev/zero'])).toMatchObject({ code: 0 });
      await until('STOPPED');
      expect(exit()).toBe('137');
      expect(on.events.match(/\/tasks\/oom {"container_id":"box"}/g)).toHaveLength(1);
    });

    it('processor time: enforced, and told of', async () => {
      expect(on.run(['--detach', ...box('--cpus', '0.2'), 'sh', '-c', 'while :; do :; done'])).toMatchObject({
        code: 0,
        stderr: '',
      });
      const [path] = ours().flatMap((folder) =>
        execFileSync(
          'find',
          [folder, '(', '-name', 'cpu.max', '-o', '-name', 'cpu.cfs_quota_us', ')', '-path', '*/box/*'],
          {
            encoding: 'utf8',
          },
        )
          .split('\n')
          .filter(Boolean),
      ) as [string];
      expect(readFileSync(path, 'utf8')).toMatch(/^20000( 100000)?\n$/);
      const throttled = () =>
        Number(/nr_throttled (\d+)/.exec(readFileSync(join(dirname(path), 'cpu.stat'), 'utf8'))?.[1]);
      await expect.poll(throttled, { timeout: 20_000 }).toBeGreaterThan(0);
      expect(on.ctr(['task', 'metrics', '--format', 'json', 'box']).stdout).toMatch(
        /"(nr_throttled|throttled_periods)": *[1-9]/,
      );
    });

    it('namespaces of another container', () => {
      started('sleep', '1000');
      const pid = /box +(\d+)/.exec(on.ctr(['task', 'ls']).stdout)?.[1];
      const files = { uts: 'uts', network: 'net', ipc: 'ipc' };
      const words = Object.entries(files).flatMap(([type, file]) => ['--with-ns', `${type}:/proc/${pid}/ns/${file}`]);
      // Not each busybox has a readlink that takes more than one.
      const look = ['sh', '-c', 'for type in uts net ipc mnt; do readlink /proc/self/ns/$type; done'];
      const first = on.ctr(['task', 'exec', '--exec-id', 'look', 'box', ...look]).stdout.split('\n');
      const said = on.run(['--rm', '--rootfs', ...words, '--cgroup', `${group}/other`, root, 'other', ...look]);
      expect(said).toMatchObject({ code: 0, stderr: '' });
      expect(said.stdout.split('\n').map((line, i) => line === first[i])).toEqual([true, true, true, false, true]);
    });

    it('its filter of system calls', () => {
      const said = on.run([
        '--rm',
        ...box('--seccomp'),
        'sh',
        '-c',
        'grep Seccomp: /proc/self/status; unshare -m true',
      ]);
      expect(said.stdout).toBe('Seccomp:\t2\n');
      expect(said.stderr).toMatch(/not permitted/);
      const free = on.run([
        '--rm',
        ...box('--seccomp', '--allow-new-privs'),
        'grep',
        '-E',
        'NoNew|Seccomp:',
        '/proc/self/status',
      ]);
      expect(free.stdout).toBe('NoNewPrivs:\t0\nSeccomp:\t2\n');
    });
  },
  SLOW_MS,
);
