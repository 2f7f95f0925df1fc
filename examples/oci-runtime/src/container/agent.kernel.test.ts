// An agent of another make is given the listener, and answers; runc tells it the same.
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Lab } from '../testing/lab.js';

const has = (program: string) => spawnSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' }).status === 0;
const missing = [
  ...(process.getuid?.() === 0 ? [] : ['root']),
  ...(existsSync('/bin/busybox') ? [] : ['busybox-static']),
  ...(has('python3') ? [] : ['python3']),
];
const needs = missing.length ? ` [needs ${missing.join(', ')}]` : '';

/** Writes what it is told in a line of a file each, and answers: mkdir with EDQUOT, all else with "go on". */
const script = `
import fcntl, json, socket, struct, sys, threading
path, told = sys.argv[1:]
server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
server.bind(path)
server.listen(16)
print('ready', flush=True)
RECV, SEND, CONTINUE, EDQUOT = 0xc0502100, 0xc0182101, 1, 122
def answer(fd):
    while True:
        call = bytearray(80)
        try: fcntl.ioctl(fd, RECV, call)
        except OSError: return
        number = struct.unpack_from('i', call, 16)[0]
        made = number in (83, 258, 34)
        reply = bytearray(struct.pack('QqiI', struct.unpack_from('Q', call)[0], 0, -EDQUOT if made else 0, 0 if made else CONTINUE))
        try: fcntl.ioctl(fd, SEND, reply)
        except OSError: pass
while True:
    peer, _ = server.accept()
    data, fds, _, _ = socket.recv_fds(peer, 1 << 20, 8)
    while True:
        # Who has sent it may wait for the answer, and close the connection later.
        try: json.loads(data)
        except ValueError: data += peer.recv(1 << 20)
        else: break
    with open(told, 'a') as file: file.write('%d %s\\n' % (len(fds), data.decode()))
    for fd in fds: threading.Thread(target=answer, args=(fd,), daemon=True).start()
`;

describe.skipIf(needs)(`a seccomp agent${needs}`, () => {
  let lab: Lab;
  let agent: ChildProcess;
  let socket: string;
  let told: string;
  let count = 0;
  beforeAll(async () => {
    lab = new Lab('/bin/busybox');
    [socket, told] = [join(lab.folder, 'agent'), join(lab.folder, 'told')];
    agent = spawn('python3', ['-c', script, socket, told], { stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise((resolve) => agent.stdout?.once('data', resolve));
  });
  afterEach(() => {
    for (const id of lab.oci('list', '-q').stdout.split('\n')) if (id !== '') lab.oci('delete', '--force', id);
    const find = ['/sys/fs/cgroup', '-depth', '-path', `*/iso-test-${process.pid}*`, '-type', 'd'];
    for (const path of execFileSync('find', find, { encoding: 'utf8' }).split('\n')) if (path !== '') rmdirSync(path);
    expect(readdirSync(lab.store)).toEqual([]);
  });
  afterAll(async () => {
    const gone = new Promise((resolve) => agent.once('exit', resolve));
    agent.kill('SIGKILL');
    await gone;
    rmSync(lab.folder, { recursive: true, force: true });
  });

  /** A bundle whose filter asks about some calls. */
  function bundle(calls: string[], args: string[], more: object = { listenerPath: socket, listenerMetadata: 'A=b' }) {
    const name = `s${++count}`;
    const path = lab.bundle(name, args, (config) => {
      const seccomp = {
        defaultAction: 'SCMP_ACT_ALLOW',
        architectures: [process.arch === 'x64' ? 'SCMP_ARCH_X86_64' : 'SCMP_ARCH_AARCH64'],
        syscalls: [{ names: calls, action: 'SCMP_ACT_NOTIFY' }],
        ...more,
      };
      Object.assign(config, { annotations: { mine: 'x' }, linux: { ...config.linux, seccomp } });
    });
    writeFileSync(told, '');
    return { name, path };
  }

  const mkdir = ['mkdir', 'mkdirat'];
  /** What the agent was told, each in a connection of its own. */
  const all = () =>
    readFileSync(told, 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => ({ count: Number(line.split(' ')[0]), ...JSON.parse(line.slice(line.indexOf(' '))) }));

  it('is told which process of which container it is, and decides', () => {
    const { name, path } = bundle(mkdir, ['sh', '-c', 'mkdir /tmp/a; sleep 60']);
    expect(lab.oci('create', '--bundle', path, name)).toMatchObject({ code: 0, stderr: '' });
    const { pid } = JSON.parse(lab.oci('state', name).stdout);
    const state = { ociVersion: '1.2.0', id: name, status: 'creating', pid, bundle: path, annotations: { mine: 'x' } };
    expect(all()).toEqual([{ count: 1, ociVersion: '1.2.0', fds: ['seccompFd'], pid, metadata: 'A=b', state }]);
    expect(lab.oci('start', name).code).toBe(0);
    const said = lab.oci('exec', name, 'sh', '-c', 'echo $$; mkdir /tmp/b; ls /tmp');
    expect(said).toMatchObject({ code: 0, stderr: expect.stringMatching(/[qQ]uota/) });
    const [, second] = all();
    expect(second).toMatchObject({ count: 1, metadata: 'A=b', state: { status: 'running', pid } });
    expect(second.pid).not.toBe(pid);
  });

  it('is asked by the very exec of the program, where the filter has it so', () => {
    const { name, path } = bundle(['execve', 'execveat', 'openat2'], ['sh', '-c', 'echo through']);
    expect(lab.oci('run', '--bundle', path, name)).toMatchObject({ code: 0, stdout: 'through\n', stderr: '' });
    expect(all()).toHaveLength(1);
  });

  it('without no_new_privs too', () => {
    const { name, path } = bundle(mkdir, ['sh', '-c', 'mkdir /tmp/a; grep NoNew /proc/self/status']);
    const config = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'));
    config.process.noNewPrivileges = false;
    writeFileSync(join(path, 'config.json'), JSON.stringify(config));
    expect(lab.oci('run', '--bundle', path, name)).toMatchObject({
      stdout: 'NoNewPrivs:\t0\n',
      stderr: expect.stringMatching(/[qQ]uota/),
    });
  });

  it('that is not there, or is not asked for: there is no container; one that nobody asks is not looked for', () => {
    const nobody = { listenerPath: join(lab.folder, 'nobody') };
    const fails = (more: object, calls = mkdir) => {
      const { name, path } = bundle(calls, ['true'], more);
      const { code, stderr } = lab.oci('create', '--bundle', path, name);
      expect(lab.oci('list', '-q').stdout.trim()).toBe('');
      return `${code} ${stderr}`;
    };
    expect(fails(nobody)).toMatch(/^1 iso-oci: seccomp agent .*\/nobody: .*ENOENT/);
    expect(fails(nobody, ['execve'])).toMatch(/^1 iso-oci: seccomp agent .*\/nobody: .*ENOENT/);
    expect(fails({})).toMatch(/SCMP_ACT_NOTIFY without a listenerPath/);
    expect(fails({ listenerMetadata: 'x' })).toMatch(/listenerMetadata without a listenerPath/);
    const { name, path } = bundle(mkdir, ['true'], { ...nobody, syscalls: [] });
    expect(lab.oci('run', '--bundle', path, name).code).toBe(0);
  });

  it.skipIf(!has('runc'))('runc tells it the same [needs runc]', () => {
    const { name, path } = bundle(mkdir, ['mkdir', '/tmp/a']);
    const store = join(lab.folder, 'runc');
    const words = ['--root', store, 'run', '--bundle', path, name];
    const seen = [
      () => lab.oci('run', '--bundle', path, name),
      () => spawnSync('runc', words, { encoding: 'utf8', timeout: 20_000 }),
    ].map((run) => {
      writeFileSync(told, '');
      const { stderr } = run();
      const [{ ociVersion, pid, state, ...rest }] = all();
      return { ...rest, quota: /[qQ]uota/.test(stderr), state: { ...state, pid: state.pid === pid, ociVersion: '' } };
    });
    expect(seen[0]).toEqual(seen[1]);
  });
});
