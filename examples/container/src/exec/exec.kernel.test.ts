import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Fd, O, syscall } from '@iso/sys';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { output } from '../attack/fixture.js';
import { run } from '../index.js';
import { command } from '../testing/command.js';
import { lacking } from '../testing/lacking.js';

const missing = lacking();
const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
let box: ChildProcess;

/** What is kept of containers. */
const files = () => readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name));

function readFileIfAny(path: string): string {
  return lstatSync(path, { throwIfNoEntry: false })?.isFile() ? readFileSync(path, 'utf8') : '';
}

/** Runs the command; several may run at once. */
async function iso(
  args: readonly string[],
  input = '',
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [...command, ...args], {
    env: { ...process.env, ISO_ROOT: folder, FROM_HERE: 'x' },
  });
  const result = { code: null as number | null, stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => (result.stdout += chunk));
  child.stderr.on('data', (chunk) => (result.stderr += chunk));
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  [result.code] = await once(child, 'close');
  return result;
}

beforeAll(async () => {
  if (missing) return;
  const options = [
    '--rm',
    '--name',
    'box',
    '--hostname',
    'inside',
    '-e',
    'A=1',
    '-w',
    '/usr',
    '--ipc',
    'shareable',
    '--group-add',
    '4242',
  ];
  const script = 'echo shared >/dev/shm/file; trap "exit 0" TERM; echo ready; sleep 300 & wait';
  const run = [process.execPath, ...command, 'run', ...options, '/', 'sh', '-c', script];
  // With a mask of nothing, as a careless caller has it.
  box = spawn('sh', ['-c', 'umask 0; exec "$@"', 'sh', ...run], {
    env: { ...process.env, ISO_ROOT: folder },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(box.stdout as never, 'data');
  // Others find it once its starter has told them, and has gone on from its start.
  while (!files().some((path) => readFileIfAny(path).includes('"status":"running"'))) await sleep(20);
  await sleep(100);
  const file = join(folder, 'variables');
  writeFileSync(file, '# of a file\nB=2\nC=3\n');
});
afterAll(async () => {
  if (box) {
    const ended = once(box, 'close');
    box.kill('SIGTERM');
    await ended;
  }
  rmSync(folder, { recursive: true, force: true });
});

describe.skipIf(missing)(`iso exec${missing}`, () => {
  it('runs commands with docker’s exit codes', async () => {
    const all = await Promise.all(
      [
        ['box', 'sh', '-c', 'exit 7'],
        ['box', 'no-such-command'],
        ['box', '/etc/passwd'],
        ['nobody', 'true'],
      ].map((args) => iso(['exec', ...args])),
    );
    expect(all.map(({ code }) => code)).toEqual([7, 127, 126, 125]);
    for (const { stdout, stderr, code } of all) {
      expect(stdout).toBe('');
      expect(stderr).toMatch(code === 7 ? /^$/ : /^iso: [^\n]+\n$/);
    }
  });

  it('with the container’s variables, directory, host name and groups, and its own', async () => {
    const file = join(folder, 'variables');
    const script = 'hostname; pwd; id -G; echo $A $B $C $FROM_HERE $ABSENT; wc -c';
    const own = ['-e', 'C=4', '-e', 'FROM_HERE', '-e', 'ABSENT', '--env-file', file, '-w', '/etc', '-u', '1000:1000'];
    const { stdout } = await iso(['exec', '-i', ...own, 'box', 'sh', '-c', script], 'x'.repeat(100_000));
    expect(stdout).toBe('inside\n/etc\n1000 4242\n1 2 4 x\n100000\n');
  });

  it('at a terminal, and detached, with all privileges', async () => {
    const script = 'mount -t tmpfs none /media && stat -f -c %T /media >/tmp/detached; exec sleep 300';
    const detached = await iso(['exec', '-d', '--privileged', 'box', 'sh', '-c', script]);
    expect(detached).toEqual({ code: 0, stdout: '', stderr: '' });
    const wait =
      'until test -s /tmp/detached; do sleep 0.05; done; cat /tmp/detached; hostname; pwd; test -t 1 && echo $TERM';
    expect((await iso(['exec', '-t', 'box', 'sh', '-c', `${wait}; sleep 0.2`])).stdout).toBe(
      'tmpfs\r\ninside\r\n/usr\r\nxterm\r\n',
    );
  });

  it('keeps what it needs to know from everybody else', () => {
    const kept = files();
    expect(kept.some((path) => readFileIfAny(path).includes('"name":"box"'))).toBe(true);
    expect(kept.filter((path) => lstatSync(path).mode & 0o022 && !lstatSync(path).isSymbolicLink())).toEqual([]);
    // Nobody else comes as far as to the files in it.
    const theirs = kept.filter((path) => lstatSync(path).isDirectory() && path.startsWith(join(folder, 'containers')));
    expect(theirs.filter((path) => lstatSync(path).mode & 0o077)).toEqual([]);
    expect(theirs.length).toBeGreaterThan(1);
  });

  it('waits for no command that the container keeps from starting', { timeout: 60_000 }, async () => {
    const leased = mkdtempSync(join(tmpdir(), 'iso-test-leased-'));
    onTestFinished(() => rmSync(leased, { recursive: true }));
    copyFileSync('/bin/true', join(leased, 'true'));
    await using own = await run({
      root: '/',
      command: ['sleep', '60'],
      stdio: 'ignore',
      volumes: [{ source: leased, target: '/mnt', readonly: false }],
    });
    // Until it is given back, or 45 seconds are over, the execve waits.
    using lease = Fd.open(join(leased, 'true'), { flags: O.RDWR });
    const [F_SETSIG, F_SETLEASE, F_WRLCK, SIGURG] = [10, 1024, 1, 23];
    syscall('fcntl', lease, F_SETSIG, SIGURG);
    syscall('fcntl', lease, F_SETLEASE, F_WRLCK);
    await expect(own.exec(['/mnt/true'])).rejects.toMatchObject({
      name: 'UsageError',
      message: expect.stringMatching(/^the command was not started within 10 s/),
    });
    expect((await own.exec(['true'], { stdio: 'ignore' })).pid).toBeGreaterThan(0);
  });

  it('shares namespaces of the container', async () => {
    const script = 'cat /dev/shm/file /proc/1/comm';
    const [joined, refused] = await Promise.all([
      iso(['run', '--rm', '--ipc', 'container:box', '--pid', 'container:box', '/', 'sh', '-c', script]),
      iso(['run', '--rm', '--ipc', 'container:nobody', '/', 'true']),
    ]);
    expect(joined).toEqual({ code: 0, stdout: 'shared\nsh\n', stderr: '' });
    expect(refused).toEqual({ code: 125, stdout: '', stderr: 'iso: no such container: nobody\n' });
  });

  it('joins a user namespace of its own, whose ids it has', async () => {
    await using own = await run({ root: '/', userns: 'private', command: ['sleep', '60'], stdio: 'ignore' });
    const child = await own.exec(
      ['sh', '-c', 'readlink /proc/self/ns/user; id -u; mount -t tmpfs x /mnt 2>/dev/null || echo refused'],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    const [user, id, refused] = (await output({ child, exited: child.exited })).split('\n');
    expect(user).not.toBe(readlinkSync('/proc/self/ns/user'));
    expect([id, refused]).toEqual(['0', 'refused']);
  });
});
