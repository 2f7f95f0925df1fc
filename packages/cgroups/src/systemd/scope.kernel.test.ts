import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { fromSources } from '../../../../test/typescript.js';
import { Cgroup, findDelegated, type Limits, openDelegated, Scope } from '../index.js';
import { ended, eventually, file, has, root, run, unified } from '../kit.js';

const NAME = `iso-test-${process.pid}`;
const M = 2 ** 20;
/** A virtual machine without hardware help, beside others. */
const slow = { timeoutMs: 60_000 };
const program = '/lib/systemd/systemd';
const booted = existsSync('/run/systemd/system');
const mount = unified?.unified ?? '';
/** Whether the v2 tree, where scopes are, has the controllers that systemd sets. */
const limited = (['memory', 'cpu', 'pids'] as const).every((controller) => has(unified, controller, 2));

/** What the test of a manager needs of it. */
interface Judge {
  manager: 'system' | 'user';
  systemctl(...args: string[]): string;
}

function shown(judge: Judge, unit: string, ...properties: string[]): Record<string, string> {
  const lines = judge.systemctl('show', unit, ...properties.flatMap((property) => ['-p', property])).split('\n');
  return Object.fromEntries(lines.map((line) => line.split(/=(.*)/s).slice(0, 2)));
}

function scopes(judge: Judge): void {
  const create = (name = NAME, options: Parameters<typeof Scope.create>[1] = {}) =>
    Scope.create(name, { manager: judge.manager, ...slow, ...options });

  it('is there for systemd, delegated; groups and processes live in it; it goes with them', async () => {
    const scope = await create(NAME, { description: 'of a test' });
    const path = scope.group.path() as string;
    expect(shown(judge, scope.unit, 'ActiveState', 'Delegate', 'Description', 'ControlGroup')).toEqual({
      ActiveState: 'active',
      Delegate: 'yes',
      Description: 'of a test',
      ControlGroup: path.slice(mount.length),
    });
    expect(scope.group.pids).toEqual([]);
    const job = await Cgroup.create('job', { parent: scope.group, controllers: [] });
    const { pid, pidfd } = run(job, 'sleep 60; true');
    expect(readFileSync(`/proc/${pid}/cgroup`, 'utf8')).toContain(`/${scope.unit}/job@`);
    expect(judge.systemctl('status', scope.unit)).toContain(`${pid} `);
    job[Symbol.dispose]();
    await scope.remove(slow);
    expect((await ended(pidfd))?.signal).toBe(9);
    expect(existsSync(path)).toBe(false);
    expect(shown(judge, scope.unit, 'LoadState', 'ActiveState')).toEqual({
      LoadState: 'not-found',
      ActiveState: 'inactive',
    });
    await scope.remove();
    await expect(Scope.open(NAME, { manager: judge.manager, ...slow })).rejects.toMatchObject({ reason: 'removed' });
  });

  it('is opened, and removed, by another than who has made it', async () => {
    const scope = await create();
    const same = await Scope.open(NAME, { manager: judge.manager, ...slow });
    expect(same.group.path()).toBe(scope.group.path());
    await same.remove(slow);
    expect(shown(judge, scope.unit, 'ActiveState')).toEqual({ ActiveState: 'inactive' });
    await scope.remove(slow);
  });

  it('takes processes that are there, lies in the slice that is named, and ends with them', async () => {
    const start = await Cgroup.create('start', { controllers: [] });
    const { pid, pidfd } = run(start, 'exec sleep 60');
    const scope = await create(NAME, { pids: [pid], slice: 'isotest.slice' });
    expect(readFileSync(`/proc/${pid}/cgroup`, 'utf8')).toContain(`/isotest.slice/${scope.unit}/processes`);
    process.kill(pid, 'SIGKILL');
    await ended(pidfd);
    await start[Symbol.asyncDispose]();
    await eventually(() => shown(judge, scope.unit, 'ActiveState').ActiveState === 'inactive', 60_000);
    await scope.remove(slow);
    judge.systemctl('stop', 'isotest.slice');
  });

  it('refusals have a reason, and leave nothing', async () => {
    const scope = await create();
    await expect(create()).rejects.toMatchObject({ reason: 'exists', code: 'EEXIST' });
    await expect(create(`${NAME}-dead`, { pids: [0x3fffff] })).rejects.toMatchObject({ name: 'CgroupError' });
    await expect(create(`${NAME}-bad`, { limits: { cgroup: { maxDepth: 2 ** 40 } } })).rejects.toMatchObject({
      reason: 'invalidValue',
      file: 'cgroup.max.depth',
    });
    for (const name of ['dead', 'bad']) {
      expect(shown(judge, `${NAME}-${name}.scope`, 'LoadState')).toEqual({ LoadState: 'not-found' });
    }
    expect(scope.group.children()).toEqual(['processes']);
    await scope.remove(slow);
  });

  it.skipIf(!limited)('limits are what systemd shows and the kernel has [needs v2 controllers]', async () => {
    const limits: Limits = {
      memory: { max: '256M', high: '200M', low: '8M', swap: { max: 0 } },
      cpu: { max: 2, weight: 59, burstUs: 1000 },
      pids: { max: 100 },
      cgroup: { maxDescendants: 9 },
    };
    const scope = await create(NAME, { limits });
    const names = [
      'MemoryMax',
      'MemoryHigh',
      'MemoryLow',
      'MemorySwapMax',
      'CPUQuotaPerSecUSec',
      'CPUWeight',
      'TasksMax',
    ];
    expect(shown(judge, scope.unit, ...names)).toEqual({
      MemoryMax: String(256 * M),
      MemoryHigh: String(200 * M),
      MemoryLow: String(8 * M),
      MemorySwapMax: '0',
      CPUQuotaPerSecUSec: '2s',
      CPUWeight: '59',
      TasksMax: '100',
    });
    const kernel = (expected: Record<string, string>) => {
      for (const [name, text] of Object.entries(expected)) expect(file(scope.group, undefined, name), name).toBe(text);
    };
    kernel({
      'memory.max': String(256 * M),
      'memory.high': String(200 * M),
      'cpu.max': '200000 100000',
      'cpu.max.burst': '1000',
      'cpu.weight': '59',
      'pids.max': '100',
      'cgroup.max.descendants': '9',
    });
    await scope.set({ pids: { max: 20 }, memory: { max: '64M', high: 'max' } }, slow);
    expect(shown(judge, scope.unit, 'TasksMax', 'MemoryMax', 'MemoryHigh')).toEqual({
      TasksMax: '20',
      MemoryMax: String(64 * M),
      MemoryHigh: 'infinity',
    });
    await expect(scope.set({ pids: { max: -1 } })).rejects.toThrow(TypeError);
    judge.systemctl('daemon-reload');
    kernel({ 'pids.max': '20', 'memory.max': String(64 * M), 'memory.high': 'max', 'cpu.max.burst': '1000' });
    await scope.remove(slow);
  });
}

it('bad names and options of a scope are told before anybody is asked', async () => {
  const bad: [string, object?][] = [
    ['a/b'],
    [''],
    ['a b'],
    [NAME, { limit: {} }],
    [NAME, { limits: { memory: { max: -1 } } }],
    [NAME, { manager: 'root' }],
    [NAME, { slice: '../x' }],
    [NAME, { pids: [] }],
    [NAME, { pids: [0] }],
    [NAME, { description: 1 }],
    [NAME, { timeoutMs: -1 }],
  ];
  for (const [name, options] of bad) {
    await expect(Scope.create(name, options as never), JSON.stringify([name, options])).rejects.toThrow(TypeError);
  }
});

describe.skipIf(!root || booted || !unified || !existsSync(program))(
  'scopes of a systemd of the test’s own [needs root, a v2 tree, systemd installed and not process 1]',
  () => {
    const runtime = mkdtempSync(join(tmpdir(), 'iso-test-'));
    const group = `${mount}/${NAME}-systemd`;
    let systemd: ChildProcess;
    let before: string | undefined;
    const inside = (...command: string[]) =>
      execFileSync('nsenter', ['--mount', `--target=${systemd.pid}`, ...command], {
        encoding: 'utf8',
        env: { PATH: '/usr/bin:/bin', XDG_RUNTIME_DIR: runtime },
      }).trim();

    beforeAll(async () => {
      mkdirSync(group);
      for (const folder of ['units', 'home']) mkdirSync(`${runtime}/${folder}`);
      writeFileSync(`${runtime}/units/iso.target`, '[Unit]\nDefaultDependencies=no\n');
      const environment = [`PATH=/usr/bin:/bin`, `HOME=${runtime}/home`, `XDG_RUNTIME_DIR=${runtime}`];
      // Only in a mount namespace of its own does this machine look as if it had been booted with systemd. Its only unit is ours, and what it is asked for.
      const script = `echo 0 > ${group}/cgroup.procs && mount -t tmpfs run /run && mkdir -p /run/systemd/system &&
        exec env -i ${environment.join(' ')} SYSTEMD_UNIT_PATH=${runtime}/units:${runtime}/systemd/transient ${program} --user --unit=iso.target`;
      systemd = spawn('unshare', ['--mount', 'sh', '-c', script], { stdio: 'ignore' });
      await eventually(() => existsSync(`${runtime}/systemd/private`), 60_000);
      before = process.env.XDG_RUNTIME_DIR;
      process.env.XDG_RUNTIME_DIR = runtime;
    }, 60_000);
    // A user's manager makes it for what has no slice named.
    afterEach(() => void inside('systemctl', '--user', 'stop', 'app.slice'));
    afterAll(async () => {
      if (before === undefined) delete process.env.XDG_RUNTIME_DIR;
      else process.env.XDG_RUNTIME_DIR = before;
      const gone = new Promise((resolve) => systemd.once('exit', resolve));
      systemd.kill('SIGKILL');
      await gone;
      // On a hybrid machine systemd has one of the same path in its own v1 hierarchy.
      const left = await Cgroup.open(group.slice(mount.length));
      await left[Symbol.asyncDispose]();
      rmSync(runtime, { recursive: true, force: true });
    });

    it('nobody else’s is asked where there is none', async () => {
      await expect(Scope.create(NAME, { manager: 'system' })).rejects.toMatchObject({
        code: 'EUNSUPPORTED',
        feature: 'systemd',
      });
    });

    scopes({ manager: 'user', systemctl: (...args) => inside('systemctl', '--user', '--no-pager', ...args) });
  },
);

describe.skipIf(!root || !booted)('scopes of the machine’s systemd [needs root, and systemd as process 1]', () => {
  // What a service depends on mounts much where little has been started yet, and that stays.
  beforeAll(() => void execFileSync('systemctl', ['start', 'sysinit.target']), 300_000);

  scopes({
    manager: 'system',
    systemctl: (...args) => execFileSync('systemctl', ['--no-pager', ...args], { encoding: 'utf8' }).trim(),
  });

  it('this process’s own service is delegated: found, opened, used', async () => {
    expect(findDelegated()?.path).toBe('/system.slice/iso.service');
    const mine = await openDelegated();
    const job = await Cgroup.create('job', { parent: mine, limits: { memory: { max: '32M' } } });
    expect(file(job, undefined, 'memory.max')).toBe(String(32 * M));
    await job.remove();
    mine[Symbol.dispose]();
  });

  it('a plain user’s, by the manager of their own', async () => {
    const uid = 65_534;
    const runtime = `/run/user/${uid}`;
    mkdirSync(runtime, { recursive: true, mode: 0o700 });
    execFileSync('chown', [String(uid), runtime]);
    const environment = { XDG_RUNTIME_DIR: runtime, HOME: '/nonexistent', TSX_DISABLE_CACHE: '1' };
    const variables = Object.entries(environment).map(([key, value]) => `--setenv=${key}=${value}`);
    const unit = `${NAME}-manager`;
    const own = ['-p', `User=${uid}`, '-p', 'Delegate=yes', '-p', 'Type=notify'];
    const manager = [program, '--user', '--unit=basic.target'];
    execFileSync('systemd-run', [`--unit=${unit}`, '--quiet', ...own, ...variables, ...manager]);
    try {
      const script = `import { Cgroup, Scope } from ${JSON.stringify(`${import.meta.dirname}/../index.ts`)};
        const slow = { timeoutMs: 60_000 };
        const scope = await Scope.create('mine', { limits: { pids: { max: 30 } }, ...slow });
        const job = await Cgroup.create('job', { parent: scope.group, limits: { pids: { max: 3 } } });
        console.log(JSON.stringify([scope.manager, scope.group.path(), scope.group.read('pids.max'), job.read('pids.max')]));
        await job.remove();
        await scope.remove(slow);`;
      const node = [process.execPath, ...fromSources, '--input-type=module', '-e', script];
      const inside = ['systemd-run', '--user', '--quiet', '--pipe', '--wait', ...variables];
      const user = [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'];
      const args = [...user, ...inside, `--working-directory=${process.cwd()}`, ...node];
      const { stdout, stderr } = spawnSync('setpriv', args, {
        encoding: 'utf8',
        env: { ...process.env, ...environment },
      });
      expect(stderr).toBe('');
      const [whose, path, max, inner] = JSON.parse(stdout);
      expect([whose, max, inner]).toEqual(['user', '30', '3']);
      expect(path).toMatch(new RegExp(`/${unit}\\.service/.*/mine\\.scope$`));
      expect(existsSync(path)).toBe(false);
    } finally {
      spawnSync('systemctl', ['stop', unit]);
      rmSync(runtime, { recursive: true, force: true });
    }
  }, 300_000);
});
