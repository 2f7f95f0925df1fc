// Hooks of all six points, as the specification has them; runc judges where both mean the same.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { HookPoint } from './config/spec.js';
import { Lab } from './testing/lab.js';

const has = (program: string) => spawnSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' }).status === 0;
const missing = [
  ...(process.getuid?.() === 0 ? [] : ['root']),
  ...(existsSync('/bin/busybox') ? [] : ['busybox-static']),
];
const needs = missing.length ? ` [needs ${missing.join(', ')}]` : '';
const points: readonly HookPoint[] = [
  'prestart',
  'createRuntime',
  'createContainer',
  'startContainer',
  'poststart',
  'poststop',
];
const types = ['mnt', 'pid', 'net', 'uts', 'ipc', 'cgroup'];
const group = `/iso-test-${process.pid}`;

/** What a hook says of itself. */
interface Said {
  point: string;
  state: Record<string, unknown>;
  cwd: string;
  /** Names of namespaces that are this process's. */
  shared: string[];
  /** A file of the host that the container does not have. */
  host: boolean;
  variables: string[];
}

describe.skipIf(needs)(`hooks${needs}`, () => {
  let lab: Lab;
  let out: string;
  let count = 0;
  beforeAll(() => {
    lab = new Lab('/bin/busybox');
    out = join(lab.folder, 'said');
    mkdirSync(out);
    const script = `#!/bin/sh
state=$(cat)
shared=; for type in ${types.join(' ')}; do
  [ "$(readlink /proc/self/ns/$type)" = "$(eval echo \\$own_$type)" ] && shared="$shared $type"
done
at=$(ls ${out} | grep -c .)
# The shell adds some of its own.
variables=$(env | grep -Ev '^(own_|PWD=|OLDPWD=|SHLVL=|_=)' | tr '\\n' ' ')
echo "$1|$state|$(pwd)|$shared|$([ -e ${lab.folder}/host ] && echo host)|$variables" > ${out}/$at
exit $2
`;
    for (const path of [join(lab.folder, 'hook'), join(lab.rootfs, 'hook')]) {
      writeFileSync(path, script);
      chmodSync(path, 0o755);
    }
    symlinkSync('busybox', join(lab.rootfs, 'bin/tr'));
    symlinkSync('busybox', join(lab.rootfs, 'bin/env'));
    writeFileSync(join(lab.folder, 'host'), '');
  });
  beforeEach(() => {
    rmSync(out, { recursive: true });
    mkdirSync(out);
  });
  afterEach(() => {
    const find = ['/sys/fs/cgroup', '-depth', '-path', `*${group}*`, '-type', 'd'];
    for (const path of execFileSync('find', find, { encoding: 'utf8' }).split('\n')) if (path !== '') rmdirSync(path);
    expect(readdirSync(lab.store)).toEqual([]);
  });
  afterAll(() => rmSync(lab.folder, { recursive: true, force: true }));

  /** A bundle with a hook at each point, one of which may fail. */
  function bundle(failing?: HookPoint, more: (config: object) => void = () => {}): [name: string, path: string] {
    const own = types.map((type) => `own_${type}=${readlinkSync(`/proc/self/ns/${type}`)}`);
    const hook = (point: HookPoint) => ({
      path: point === 'startContainer' ? '/hook' : join(lab.folder, 'hook'),
      args: ['hook', point, point === failing ? '3' : '0'],
      env: ['PATH=/bin:/usr/bin', 'MINE=x', ...own],
    });
    const name = `h${++count}`;
    const program = `echo program > ${out}/program; until grep -q ^poststart ${out}/[0-9]*; do sleep 0.05; done`;
    const path = lab.bundle(name, ['sh', '-c', program], (config) => {
      const shown = { destination: out, type: 'bind', source: out, options: ['bind', 'rw'] };
      Object.assign(config, {
        hooks: Object.fromEntries(points.map((point) => [point, [hook(point)]])),
        mounts: [...(config.mounts ?? []), shown],
      });
      more(config);
    });
    return [name, path];
  }

  const said = (): Said[] =>
    readdirSync(out)
      .filter((name) => name !== 'program')
      .sort()
      .map((name) => {
        const [point = '', state = '', cwd = '', shared = '', host, variables = ''] = readFileSync(
          join(out, name),
          'utf8',
        )
          .trimEnd()
          .split('|');
        const words = (text: string) => text.split(' ').filter(Boolean);
        return {
          point,
          state: JSON.parse(state),
          cwd,
          shared: words(shared),
          host: host === 'host',
          variables: words(variables).sort(),
        };
      });

  it('each in its turn and place, with the state and variables that are its own', () => {
    const [name, path] = bundle();
    expect(lab.oci('create', '--bundle', path, name)).toMatchObject({ code: 0, stderr: '' });
    const { pid } = JSON.parse(lab.oci('state', name).stdout);
    expect(said().map(({ point }) => point)).toEqual(points.slice(0, 3));
    expect(lab.oci('start', name)).toMatchObject({ code: 0, stderr: '' });
    expect(lab.oci('delete', '--force', name)).toMatchObject({ code: 0, stderr: '' });
    const all = Object.fromEntries(said().map((one) => [one.point, one]));
    expect(Object.keys(all)).toEqual(points);
    const state = (status: string, more: object = {}) => ({
      ociVersion: '1.2.0',
      id: name,
      status,
      bundle: path,
      ...more,
    });
    const variables = ['MINE=x', 'PATH=/bin:/usr/bin'];
    const outside = { shared: types, host: true, variables };
    const inside = { shared: ['cgroup'], variables };
    expect(all.prestart).toEqual({ point: 'prestart', state: state('creating', { pid }), cwd: path, ...outside });
    expect(all.createRuntime).toMatchObject({ state: state('creating', { pid }), cwd: path, ...outside });
    // Of the container's namespaces, and of the host's files.
    expect(all.createContainer).toMatchObject({
      state: state('creating', { pid: 1 }),
      cwd: lab.rootfs,
      host: true,
      ...inside,
    });
    expect(all.startContainer).toMatchObject({ state: state('created', { pid: 1 }), cwd: '/', host: false, ...inside });
    expect(all.poststart?.state).toMatchObject(state('running', { pid }));
    expect(all.poststop).toMatchObject({ state: state('stopped'), ...outside });
    expect(all.poststop?.state).not.toHaveProperty('pid');
  });

  it.each<[HookPoint, number, number]>([
    ['prestart', 1, 0],
    ['createRuntime', 2, 0],
    ['createContainer', 3, 0],
    ['startContainer', 4, 1],
    ['poststart', 5, 1],
  ])('%s that fails: the container ends, and what was begun is brought to its end', (point, ran, created) => {
    const [name, path] = bundle(point);
    const [create, start] = [lab.oci('create', '--bundle', path, name), lab.oci('start', name)];
    expect(created ? start : create).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(new RegExp(`the ${point} hook .* exited with 3`)),
    });
    if (created) {
      expect(JSON.parse(lab.oci('state', name).stdout)).toMatchObject({ status: 'stopped' });
      expect(lab.oci('delete', name)).toMatchObject({ code: 0 });
    } else expect(lab.oci('state', name).stderr).toMatch(/does not exist/);
    expect(said().map((one) => one.point)).toEqual([...points.slice(0, ran), 'poststop']);
    expect(existsSync(join(out, 'program'))).toBe(point === 'poststart');
  });

  it('poststop that fails is a warning, and those behind it run', () => {
    const [name, path] = bundle('poststop', (config) => {
      const { hooks } = config as { hooks: Record<string, object[]> };
      hooks.poststop?.push({
        path: join(lab.folder, 'hook'),
        args: ['hook', 'second', '0'],
        env: ['PATH=/bin:/usr/bin'],
      });
    });
    const log = join(lab.folder, 'log');
    expect(lab.oci('run', '--bundle', path, name).code).toBe(0);
    expect(said().map(({ point }) => point)).toEqual([...points, 'second']);
    expect(lab.oci('create', '--bundle', path, name).code).toBe(0);
    const gone = lab.oci('--log', log, '--log-format', 'json', 'delete', '--force', name);
    expect(gone).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(/^iso-oci: warning: the poststop hook .* 3\n$/),
    });
    expect(JSON.parse(readFileSync(log, 'utf8'))).toMatchObject({
      level: 'warning',
      msg: expect.stringMatching(/poststop/),
    });
  });

  it('what one of createContainer mounts below the root is the container’s, and its host’s never', () => {
    const name = `h${++count}`;
    const mount = `mount -t tmpfs -o mode=751 tmpfs ${lab.rootfs}/etc && echo there > ${lab.rootfs}/etc/mounted`;
    for (const readonly of [false, true]) {
      const path = lab.bundle(name, ['sh', '-c', 'stat -c %a /etc; cat /etc/mounted'], (config) => {
        const hook = { path: '/bin/sh', args: ['sh', '-c', mount], env: ['PATH=/sbin:/bin:/usr/bin'] };
        Object.assign(config, { hooks: { createContainer: [hook] }, root: { path: lab.rootfs, readonly } });
      });
      const before = readFileSync('/proc/self/mountinfo', 'utf8');
      expect(lab.oci('run', '--bundle', path, name)).toMatchObject({ code: 0, stderr: '', stdout: '751\nthere\n' });
      expect(readFileSync('/proc/self/mountinfo', 'utf8')).toBe(before);
      expect(readdirSync(join(lab.rootfs, 'etc'))).toEqual([]);
    }
  });

  it('in a user namespace createContainer is root of that, and of nothing else', () => {
    const name = `h${++count}`;
    const map = [{ containerID: 0, hostID: 100_000, size: 1000 }];
    const path = lab.bundle(name, ['true'], (config) => {
      const script = `{ id -u; cat /proc/self/uid_map; touch ${lab.folder}/never; } > ${out}/user 2>&1; true`;
      Object.assign(config, {
        hooks: { createContainer: [{ path: '/bin/sh', args: ['sh', '-c', script], env: ['PATH=/bin:/usr/bin'] }] },
        linux: {
          ...config.linux,
          namespaces: [...(config.linux?.namespaces ?? []), { type: 'user' }],
          uidMappings: map,
          gidMappings: map,
        },
      });
    });
    chmodSync(lab.folder, 0o755);
    chmodSync(out, 0o777);
    expect(lab.oci('run', '--bundle', path, name)).toMatchObject({ code: 0, stderr: '' });
    expect(readFileSync(join(out, 'user'), 'utf8')).toMatch(/^0\n +0 +100000 +1000\ntouch: .*denied\n$/);
  });

  it('is ended after its time, and the container with it', () => {
    const path = lab.bundle('slow', ['true'], (config) =>
      Object.assign(config, {
        hooks: { createContainer: [{ path: '/bin/sleep', args: ['sleep', '60'], timeout: 1 }] },
      }),
    );
    expect(lab.oci('create', '--bundle', path, 'slow')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/createContainer hook \/bin\/sleep failed: .*timed out/),
    });
  });

  it('goes with who makes the container: where that is killed meanwhile, nothing waits', () => {
    const pidFile = join(lab.folder, 'halted');
    const path = lab.bundle('killed', ['sleep', '60'], (config) => {
      // Its parent is the command.
      const script = `cat > ${pidFile}; kill -KILL $PPID`;
      Object.assign(config, { hooks: { prestart: [{ path: '/bin/sh', args: ['sh', '-c', script] }] } });
    });
    expect(lab.oci('create', '--bundle', path, 'killed').code).toBe(null);
    const { pid } = JSON.parse(readFileSync(pidFile, 'utf8'));
    const wait = ['-c', `while [ -e /proc/${pid}/exe ]; do sleep 0.02; done`];
    expect(spawnSync('sh', wait, { timeout: 5000 }).status).toBe(0);
    expect(lab.oci('delete', '--force', 'killed').code).toBe(0);
  });

  it.skipIf(!has('runc'))('runc means the same by the first four [needs runc]', () => {
    const [name, path] = bundle();
    const store = join(lab.folder, 'runc');
    const ours = () => lab.oci('run', '--bundle', path, name);
    const theirs = () =>
      spawnSync('runc', ['--root', store, 'run', '--bundle', path, name], { cwd: path, stdio: 'ignore' });
    const seen = [ours, theirs].map((run) => {
      rmSync(out, { recursive: true });
      mkdirSync(out);
      run();
      return said()
        .filter(({ point }) => point !== 'poststart')
        .map(({ state: { ociVersion: _, pid, status, ...state }, ...rest }) => ({
          ...rest,
          // Of one that is gone it is whoever's removes it.
          cwd: rest.point === 'poststop' ? '' : rest.cwd,
          state,
          status,
          pid: typeof pid === 'number' && pid > 1 ? 'outside' : pid,
        }));
    });
    expect(seen[0]).toHaveLength(5);
    expect(seen[0]).toEqual(seen[1]);
  });
});
