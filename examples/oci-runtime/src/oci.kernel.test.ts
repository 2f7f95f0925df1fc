import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { detect } from '@iso/cgroups';
import { syscallNumber } from '@iso/sys';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Lab } from './testing/lab.js';
import { faultsOf } from './testing/schema.js';

const missing = [
  ...(process.getuid?.() === 0 ? [] : ['root']),
  ...(existsSync('/bin/busybox') ? [] : ['busybox-static']),
];
const needs = missing.length ? ` [needs ${missing.join(', ')}]` : '';
const noThreads = spawnSync('/usr/bin/perl', ['-Mthreads', '-e', '1']).status === 0 ? '' : ' [needs perl with threads]';
const mounts = () => readFileSync('/proc/self/mountinfo', 'utf8');
const groups = () =>
  execFileSync('find', ['/sys/fs/cgroup', '-path', `*/iso-test-${process.pid}/*`, '-type', 'd'], { encoding: 'utf8' });

describe.skipIf(needs)(`iso-oci${needs}`, () => {
  let lab: Lab;
  beforeAll(() => {
    lab = new Lab('/bin/busybox');
  });
  afterEach(() => {
    for (const id of lab.oci('list', '-q').stdout.split('\n')) if (id !== '') lab.oci('delete', '--force', id);
    const find = ['/sys/fs/cgroup', '-name', `iso-test-${process.pid}`, '-type', 'd'];
    for (const path of execFileSync('find', find, { encoding: 'utf8' }).split('\n')) if (path !== '') rmdirSync(path);
  });
  afterAll(() => rmSync(lab.folder, { recursive: true, force: true }));

  it('creates, and starts when it is told to, by processes that come and go', () => {
    const before = mounts();
    const bundle = lab.bundle('life', ['sh', '-c', 'while [ ! -e /tmp/stop ]; do sleep 0.05; done; exit 7']);
    const pidFile = join(lab.folder, 'pid');
    expect(lab.oci('create', '--bundle', bundle, '--pid-file', pidFile, 'life')).toMatchObject({ code: 0, stderr: '' });
    const pid = Number(readFileSync(pidFile, 'utf8'));
    const state = () => JSON.parse(lab.oci('state', 'life').stdout);
    expect(state()).toEqual({ ociVersion: '1.2.0', id: 'life', status: 'created', pid, bundle });
    expect(faultsOf(state(), 'state')).toEqual([]);
    // The kernel has everything already but the program.
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    expect(status).toMatch(/^NSpid:\t\d+\t1$/m);
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(status).toMatch(/^CapBnd:\t0000000000000021$/m);
    expect(readFileSync(`/proc/${pid}/limits`, 'utf8')).toMatch(/Max open files +100 +200/);
    expect(readFileSync(`/proc/${pid}/comm`, 'utf8')).toBe('memfd:gate\n');
    expect(readFileSync(`/proc/${pid}/cgroup`, 'utf8')).toMatch(
      new RegExp(`:(pids)?:/iso-test-${process.pid}/life\\n`),
    );

    // Later edits of the bundle change nothing.
    writeFileSync(join(bundle, 'config.json'), '{}');
    expect(lab.oci('start', 'life')).toMatchObject({ code: 0, stderr: '' });
    expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).toMatch(/^sh\0-c\0while/);
    expect(state()).toMatchObject({ status: 'running', pid });
    expect(lab.oci('start', 'life')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/cannot start .* running/),
    });
    expect(lab.oci('delete', 'life')).toMatchObject({ code: 1, stderr: expect.stringMatching(/not stopped/) });

    const limits = join(lab.folder, 'limits.json');
    writeFileSync(limits, '{"pids":{"limit":"many"}}');
    expect(lab.oci('update', '--resources', limits, 'life')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/pids\.limit: .* it is "many"/),
    });
    writeFileSync(limits, '{"pids":{"limit":20}}');
    expect(lab.oci('update', '--resources', limits, 'life')).toMatchObject({ code: 0, stderr: '' });

    const inside = lab.oci(
      'exec',
      'life',
      'sh',
      '-c',
      'hostname; cat /proc/1/comm; ls /proc/self/fd; touch /tmp/stop; exit 3',
    );
    expect(inside).toMatchObject({ code: 3, stdout: 'box\nsh\n0\n1\n2\n3\n' });
    const gone = () =>
      spawnSync('sh', ['-c', `while [ -e /proc/${pid}/root ]; do sleep 0.02; done`], { timeout: 5000 }).status;
    expect(gone()).toBe(0);
    expect(state()).toMatchObject({ status: 'stopped' });
    expect(lab.oci('kill', 'life', 'KILL')).toMatchObject({ code: 1, stderr: expect.stringMatching(/not running/) });
    expect(lab.oci('delete', 'life')).toMatchObject({ code: 0 });
    expect(lab.oci('state', 'life')).toMatchObject({ code: 1, stderr: expect.stringMatching(/does not exist/) });
    expect(lab.oci('delete', '--force', 'life')).toMatchObject({ code: 0 });
    expect(readdirSync(lab.store)).toEqual([]);
    expect(groups()).toBe('');
    expect(mounts()).toBe(before);
  });

  it('gives its own exit code for the container’s, and applies what is asked for', () => {
    const script =
      'cat /proc/sys/net/ipv4/ip_default_ttl; stat -c %a /tmp; cat /proc/kcore; touch /proc/sys/x; id -u; exit 5';
    const bundle = lab.bundle('run', ['sh', '-c', script], (config) => {
      Object.assign(config.linux as object, { sysctl: { 'net.ipv4.ip_default_ttl': '33' } });
      Object.assign(config.process?.user as object, { uid: 1234, gid: 5 });
    });
    const { code, stdout } = lab.oci('run', '--bundle', bundle, 'run');
    expect(code).toBe(5);
    expect(stdout).toBe('33\n1777\n1234\n');
    expect(readdirSync(lab.store)).toEqual([]);
  });

  it('gives the container a null device of its own for the caller’s', () => {
    const { dev, ino } = statSync('/dev/null');
    const look = ['sh', '-c', 'stat -Lc "%d %i" /proc/self/fd/0 /dev/null'];
    const bundle = lab.bundle('null', look);
    const sleeping = lab.bundle('null-exec', ['sleep', '60']);
    expect(lab.oci('run', '--detach', '--bundle', sleeping, 'null-exec').code).toBe(0);
    for (const { stdout } of [lab.oci('run', '--bundle', bundle, 'null'), lab.oci('exec', 'null-exec', ...look)]) {
      expect(stdout).toMatch(/^(\d+ \d+\n)\1$/);
      expect(stdout).not.toContain(`${dev} ${ino}\n`);
    }
  });

  it.each([
    [
      'a mount that is no absolute path',
      (config: Record<string, unknown>) => Object.assign(config, { mounts: [{ destination: 'x' }] }),
      /absolute/,
    ],
    [
      'what the schema of the specification does not have',
      (config: Record<string, unknown>) =>
        Object.assign(config.linux as object, { namespaces: [{ type: 'mount' }, { type: 'pod' }] }),
      /config\.json: linux\.namespaces\[1\]\.type: .* it is "pod"$/m,
    ],
    [
      'a device of the network',
      (config: Record<string, unknown>) => Object.assign(config.linux as object, { netDevices: { eth0: {} } }),
      /linux\.netDevices cannot be applied/,
    ],
    [
      'a host setting',
      (config: Record<string, unknown>) => Object.assign(config.linux as object, { sysctl: { 'vm.swappiness': '1' } }),
      /not of a namespace/,
    ],
    [
      'no mount namespace',
      (config: Record<string, unknown>) => Object.assign(config.linux as object, { namespaces: [{ type: 'pid' }] }),
      /none of type mount/,
    ],
    [
      'a profile of AppArmor',
      (config: Record<string, unknown>) => Object.assign(config.process as object, { apparmorProfile: 'x' }),
      /cannot be applied/,
    ],
    [
      'a program that is not there',
      (config: Record<string, unknown>) => Object.assign(config.process as object, { args: ['nowhere'] }),
      /ENOENT/,
    ],
    [
      'a limit beyond the caller’s',
      (config: Record<string, unknown>) =>
        Object.assign(config.process as object, { rlimits: [{ type: 'RLIMIT_NOFILE', soft: 2 ** 40, hard: 2 ** 40 }] }),
      /EPERM/,
    ],
  ])('refuses %s, and leaves nothing', (_, change, message) => {
    const name = `bad-${readdirSync(lab.folder).length}`;
    const bundle = lab.bundle(name, ['true'], change as (config: object) => void);
    const log = join(lab.folder, 'log');
    const result = lab.oci('--log', log, '--log-format', 'json', 'create', '--bundle', bundle, name);
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(message);
    const line = JSON.parse(readFileSync(log, 'utf8').trim().split('\n').at(-1) as string);
    expect(line).toMatchObject({ level: 'error', msg: expect.stringMatching(message), time: expect.any(String) });
    expect(readdirSync(lab.store)).toEqual([]);
    expect(groups()).toBe('');
  });

  it('runs hooks with the state on their input', () => {
    const out = join(lab.folder, 'hook');
    const hook = (name: string) => ({ path: '/bin/sh', args: ['sh', '-c', `echo ${name} $(cat) >> ${out}`] });
    const bundle = lab.bundle('hooks', ['true'], (config) =>
      Object.assign(config, {
        hooks: { createRuntime: [hook('createRuntime')], poststart: [hook('poststart')], poststop: [hook('poststop')] },
      }),
    );
    expect(lab.oci('run', '--bundle', bundle, 'hooks').code).toBe(0);
    const lines = readFileSync(out, 'utf8').trim().split('\n');
    expect(lines.map((line) => line.split(' ')[0])).toEqual(['createRuntime', 'poststart', 'poststop']);
    expect(lines[0]).toContain('"status":"creating"');

    const failing = lab.bundle('failing', ['true'], (config) =>
      Object.assign(config, { hooks: { createRuntime: [{ path: '/bin/false' }] } }),
    );
    expect(lab.oci('create', '--bundle', failing, 'failing')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/createRuntime hook/),
    });
    expect(readdirSync(lab.store)).toEqual([]);
    expect(groups()).toBe('');
  });

  it('has a terminal for who waits for it without a console socket', () => {
    const bundle = lab.bundle('terminal', ['sh', '-c', 'tty; exit 6'], (config) =>
      Object.assign(config.process as object, { terminal: true }),
    );
    expect(lab.oci('run', '--bundle', bundle, 'terminal')).toMatchObject({ code: 6, stdout: '/dev/pts/0\r\n' });
    expect(lab.oci('create', '--bundle', bundle, 'terminal')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/--console-socket/),
    });
    expect(lab.oci('run', '--detach', '--bundle', lab.bundle('asleep', ['sleep', '60']), 'asleep').code).toBe(0);
    expect(lab.oci('exec', '--tty', 'asleep', 'tty')).toMatchObject({
      code: 0,
      stdout: '/dev/pts/0\r\n',
      stderr: '',
    });
    expect(lab.oci('delete', '--force', 'asleep').code).toBe(0);
  });

  it.skipIf(noThreads)(`knows a process whose first thread has ended as running${noThreads}`, () => {
    // Like a zombie it looks.
    const program = `threads->create(sub { sleep 60 }); syscall(${syscallNumber('exit')}, 0)`;
    const bundle = lab.bundle('headless', ['/usr/bin/perl', '-Mthreads', '-e', program], (config) => {
      const shown = ['/usr', '/lib', '/lib64'].filter((path) => existsSync(path));
      const binds = shown.map((path) => ({ destination: path, type: 'bind', source: path, options: ['rbind', 'ro'] }));
      Object.assign(config, { mounts: [...(config.mounts ?? []), ...binds] });
    });
    const state = () => JSON.parse(lab.oci('state', 'headless').stdout);
    for (const managed of [[], ['--cgroup-manager', 'disabled']])
      for (const [words, ended] of [
        [['kill', 'headless', 'KILL'], 'stopped'],
        [['delete', '--force', 'headless'], undefined],
      ] as const) {
        expect(lab.oci(...managed, 'run', '--detach', '--bundle', bundle, 'headless')).toMatchObject({ code: 0 });
        const { pid } = state();
        const wait = `until grep -q '^State:.Z' /proc/${pid}/status; do sleep 0.02; done`;
        expect(spawnSync('sh', ['-c', wait], { timeout: 5000 }).status).toBe(0);
        expect(state()).toMatchObject({ status: 'running', pid });
        expect(lab.oci('delete', 'headless')).toMatchObject({ code: 1, stderr: expect.stringMatching(/not stopped/) });
        expect(lab.oci(...words)).toMatchObject({ code: 0, stderr: '' });
        const gone = `while grep -q '^Threads:.[2-9]' /proc/${pid}/status 2>/dev/null; do sleep 0.02; done`;
        expect(spawnSync('sh', ['-c', gone], { timeout: 5000 }).status).toBe(0);
        if (ended) expect(state().status).toBe(ended);
        expect(lab.oci('delete', '--force', 'headless').code).toBe(0);
      }
    expect(groups()).toBe('');
  });

  it('refuses files of a cgroup that move or end processes, and leaves nothing', () => {
    for (const file of ['cgroup.procs', 'cgroup.kill', 'tasks']) {
      const bundle = lab.bundle('unified', ['true'], (config) =>
        Object.assign(config.linux as object, { resources: { unified: { [file]: '1' } } }),
      );
      const refused = { code: 1, stderr: expect.stringContaining(`"${file}" is no file of a controller`) };
      expect(lab.oci('create', '--bundle', bundle, 'unified')).toMatchObject(refused);
      expect(readdirSync(lab.store)).toEqual([]);
      expect(groups()).toBe('');
    }
    const limits = join(lab.folder, 'limits.json');
    writeFileSync(limits, '{"unified":{"cgroup.kill":"1"}}');
    expect(lab.oci('update', '--resources', limits, 'unified').stderr).toContain('is no file of a controller');
  });

  it('warns of capabilities that nobody knows, and grants the others', () => {
    const bundle = lab.bundle('bogus', ['grep', 'CapBnd', '/proc/self/status'], (config) => {
      const { process: first } = config as unknown as { process: { capabilities: Record<string, string[]> } };
      first.capabilities.bounding = ['CAP_KILL', 'CAP_BOGUS'];
    });
    const log = join(lab.folder, 'bogus.log');
    const warning = 'CAP_BOGUS cannot be granted, this kernel knows none of that name';
    expect(lab.oci('--log', log, '--log-format', 'json', 'run', '--bundle', bundle, 'bogus')).toMatchObject({
      code: 0,
      stdout: 'CapBnd:\t0000000000000020\n',
      stderr: `iso-oci: warning: process.capabilities: ${warning}\n`,
    });
    expect(JSON.parse(readFileSync(log, 'utf8'))).toMatchObject({
      level: 'warning',
      msg: expect.stringContaining(warning),
    });
  });

  const huge = detect().hierarchies.some(
    ({ version, controllers }) => version === 2 && controllers.includes('hugetlb'),
  );
  it.skipIf(!huge)('writes the files of unified, at an update too: all or none [needs hugetlb on v2]', () => {
    const pages = 'hugetlb.2MB.max';
    const bundle = lab.bundle('files', ['sleep', '60'], (config) =>
      Object.assign(config.linux as object, { resources: { unified: { [pages]: '4194304' } } }),
    );
    expect(lab.oci('run', '--detach', '--bundle', bundle, 'files')).toMatchObject({ code: 0, stderr: '' });
    const { pid } = JSON.parse(lab.oci('state', 'files').stdout);
    const { unified } = detect();
    const path = /^0::(.*)/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.[1];
    const shown = () => readFileSync(`${unified}${path}/${pages}`, 'utf8').trim();
    expect(shown()).toBe('4194304');
    const update = (files: Record<string, string>) => {
      const limits = join(lab.folder, 'limits.json');
      writeFileSync(limits, JSON.stringify({ unified: files }));
      return lab.oci('update', '--resources', limits, 'files');
    };
    expect(update({ [pages]: '2097152' })).toMatchObject({ code: 0, stderr: '' });
    expect(shown()).toBe('2097152');
    for (const other of ['hugetlb.2MB.nonsense', 'pids.max']) {
      expect(update({ [pages]: 'max', [other]: 'much' }).code).toBe(1);
      expect(shown()).toBe('2097152');
    }
    expect(lab.oci('delete', '--force', 'files').code).toBe(0);
  });

  it('adds no process where one could write to its memory meanwhile', () => {
    const tracing = (config: object) => {
      const { process: first } = config as { process: { capabilities: Record<string, string[]> } };
      for (const set of Object.values(first.capabilities)) set.push('CAP_SYS_PTRACE');
      // Its program does not run by then.
      Object.assign(config, { hooks: { startContainer: [{ path: '/bin/true' }] } });
    };
    expect(
      lab.oci('run', '--detach', '--bundle', lab.bundle('tracing', ['sleep', '60'], tracing), 'tracing'),
    ).toMatchObject({ code: 0, stderr: '' });
    const refused = {
      code: 1,
      stderr: expect.stringMatching(/process \d+ of the pid namespace has CAP_SYS_PTRACE, .*user namespace of its own/),
    };
    expect(lab.oci('exec', 'tracing', 'true')).toMatchObject(refused);
    const { pid } = JSON.parse(lab.oci('state', 'tracing').stdout);
    const joining = lab.bundle('joining', ['true'], (config) => {
      for (const namespace of config.linux?.namespaces ?? [])
        if (namespace.type === 'pid') Object.assign(namespace, { path: `/proc/${pid}/ns/pid` });
    });
    expect(lab.oci('run', '--bundle', joining, 'joining')).toMatchObject(refused);
    expect(lab.oci('delete', '--force', 'tracing').code).toBe(0);

    const owned = lab.bundle('owned', ['sleep', '60'], (config) => {
      tracing(config);
      const ids = [{ containerID: 0, hostID: 0, size: 65536 }];
      const { namespaces = [] } = config.linux ?? {};
      Object.assign(config.linux as object, {
        namespaces: [...namespaces, { type: 'user' }],
        uidMappings: ids,
        gidMappings: ids,
      });
    });
    expect(lab.oci('run', '--detach', '--bundle', owned, 'owned')).toMatchObject({ code: 0, stderr: '' });
    expect(lab.oci('exec', 'owned', 'true')).toMatchObject({ code: 0, stderr: '' });
  });

  it('writes a configuration that it runs itself', () => {
    const folder = mkdtempSync(join(lab.folder, 'spec-'));
    expect(lab.oci('spec', '--bundle', folder).code).toBe(0);
    expect(lab.oci('spec', '--bundle', folder)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/there already/),
    });
    const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
    Object.assign(config.process, { terminal: false, args: ['ls', '/dev'] });
    config.root.path = lab.rootfs;
    config.linux.cgroupsPath = `/iso-test-${process.pid}/spec`;
    writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
    const { code, stdout } = lab.oci('run', '--bundle', folder, 'spec');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^core\nfd\nfull\nmqueue\nnull\n/);
    const features = JSON.parse(lab.oci('features').stdout);
    expect(faultsOf(features, 'features')).toEqual([]);
    expect(features.linux.namespaces).toContain('time');
    expect(features.linux.capabilities).toContain('CAP_SYS_ADMIN');
  });

  it('takes an id once', () => {
    const bundle = lab.bundle('twice', ['sleep', '60']);
    expect(lab.oci('create', '--bundle', bundle, 'twice').code).toBe(0);
    expect(lab.oci('create', '--bundle', bundle, 'twice')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/exists already/),
    });
    expect(lab.oci('create', '--bundle', bundle, '../x')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/not an id/),
    });
    expect(lab.oci('list', '-q').stdout).toBe('twice\n');
    expect(lab.oci('delete', '--force', 'twice').code).toBe(0);
    expect(groups()).toBe('');
  });

  it('removes what nobody can read the state of any more, where it is told to', () => {
    const bundle = lab.bundle('damaged', ['sleep', '60']);
    expect(lab.oci('create', '--bundle', bundle, 'damaged').code).toBe(0);
    const pid = JSON.parse(lab.oci('state', 'damaged').stdout).pid;
    expect(lab.oci('create', '--bundle', lab.bundle('sound', ['sleep', '60']), 'sound').code).toBe(0);
    for (const text of ['5', 'null', '{"version":1,"id":"damaged","started":true}', '', '{"version":1,"id":"dam']) {
      writeFileSync(join(lab.store, 'damaged/state.json'), text);
      const said = {
        code: 1,
        stderr: `iso-oci: ${join(lab.store, 'damaged/state.json')} is damaged: delete --force removes the container\n`,
      };
      expect(lab.oci('state', 'damaged')).toMatchObject(said);
      expect(lab.oci('delete', 'damaged')).toMatchObject(said);
      const listed = lab.oci('list', '--format', 'json');
      expect(JSON.parse(listed.stdout)).toMatchObject([{ id: 'sound', status: 'created' }]);
      expect(listed.stderr).toMatch(/warning: .* is damaged/);
    }
    expect(lab.oci('delete', '--force', 'sound').code).toBe(0);
    expect(lab.oci('delete', '--force', 'damaged')).toMatchObject({ code: 0 });
    expect(existsSync(`/proc/${pid}/root`)).toBe(false);
    expect(lab.oci('create', '--preserve-fds', '1e9', '--bundle', bundle, 'many').stderr).toMatch(
      /number of descriptors/,
    );
  });

  it('writes the number of a process to a file of its own, whatever has the name', () => {
    const bundle = lab.bundle('numbered', ['sleep', '60']);
    const path = join(lab.folder, 'number');
    const victim = join(lab.folder, 'victim');
    writeFileSync(victim, 'mine');
    symlinkSync(victim, path);
    expect(lab.oci('run', '--detach', '--bundle', bundle, '--pid-file', path, 'numbered')).toMatchObject({ code: 0 });
    expect(Number(readFileSync(path, 'utf8'))).toBe(JSON.parse(lab.oci('state', 'numbered').stdout).pid);
    expect(readFileSync(victim, 'utf8')).toBe('mine');
    rmSync(path);
    execFileSync('mkfifo', [path]);
    expect(lab.oci('exec', '--pid-file', path, 'numbered', 'true')).toMatchObject({ code: 0, stderr: '' });
    expect(readFileSync(path, 'utf8')).toMatch(/^\d+$/);
    expect(lab.oci('delete', '--force', 'numbered').code).toBe(0);
  });

  it('gives devices to a container that says nothing of /dev', () => {
    const bundle = lab.bundle('nodev', ['ls', '/dev'], (config) => {
      const mounts = config.mounts as { destination: string }[];
      Object.assign(config, { mounts: mounts.filter(({ destination }) => destination === '/proc') });
    });
    const { code, stdout } = lab.oci('run', '--bundle', bundle, 'nodev');
    expect(code).toBe(0);
    expect(stdout.split('\n')).toEqual(
      expect.arrayContaining(['fd', 'full', 'null', 'ptmx', 'random', 'stdin', 'tty', 'zero']),
    );
    // Nothing stays in the root.
    expect(readdirSync(join(lab.rootfs, 'dev'))).toEqual([]);
  });

  it('ends the wait for a hook whose own child keeps its output', () => {
    const bundle = lab.bundle('daemon', ['true'], (config) => {
      const hook = { path: '/bin/sh', args: ['sh', '-c', 'sleep 15 & echo $!'], timeout: 1 };
      Object.assign(config, { hooks: { createRuntime: [hook] } });
    });
    const began = Date.now();
    expect(lab.oci('run', '--bundle', bundle, 'daemon')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/the createRuntime hook \/bin\/sh failed: .* timed out/),
    });
    expect(Date.now() - began).toBeLessThan(process.env.ISO_SLOW ? 100_000 : 10_000);
    expect(readdirSync(lab.store)).toEqual([]);
  });

  it('refuses ids that are none before it looks at anything else', () => {
    const bundle = lab.bundle('ids', ['true']);
    for (const id of ['', '.', '..', '../x', 'a/b', 'x'.repeat(256)])
      expect(lab.oci('create', '--bundle', bundle, id)).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('not an id'),
      });
  });

  it('is not kept waiting by what stands where config.json belongs', () => {
    const folder = mkdtempSync(join(lab.folder, 'fifo-'));
    execFileSync('mkfifo', [join(folder, 'config.json')]);
    expect(lab.oci('create', '--bundle', folder, 'fifo')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/no regular file/),
    });
    const big = mkdtempSync(join(lab.folder, 'big-'));
    execFileSync('truncate', ['-s', '2G', join(big, 'config.json')]);
    expect(lab.oci('create', '--bundle', big, 'big')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/larger than/),
    });
  });
});
