import { readFileSync } from 'node:fs';
import { attempt, CLONE, Fd, O, type Part, PR, park, syscall } from '@iso/sys';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { importSource } from '../../../test/typescript.js';
import { inNode } from './fixture.js';
import { type Attributes, type Child, run, type SpawnOptions, spawn } from './index.js';

const root = process.getuid?.() === 0;
/** Sets what no part may lack for a launch with a root of its own, which runs beside this process. */
const ownRoot: Part = { confine: (program) => program.ownRoot() };

/** What the kernel says of a process. */
const read = (pid: number | 'self', file: string) => readFileSync(`/proc/${pid}/${file}`, 'latin1');
const status = (pid: number | 'self', name: string) =>
  new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(read(pid, 'status'))?.[1]?.trim();
/** Fields of /proc/PID/stat as proc(5) counts them. */
const stat = (pid: number, field: number) =>
  Number(
    read(pid, 'stat')
      .replace(/^.*\) /s, '')
      .split(' ')[field - 3],
  );

/** All of this process that an attribute of a child could have changed. */
const own = () => [
  ...['Umask', 'Uid', 'Gid', 'Groups', 'Cpus_allowed', 'NoNewPrivs', 'SigBlk', 'CapEff'].map((name) =>
    status('self', name),
  ),
  read('self', 'limits'),
  read('self', 'oom_score_adj'),
  stat(process.pid, 19),
  stat(process.pid, 6),
  attempt('prctl', PR.GET_DUMPABLE, 0, 0, 0, 0),
];

let before: unknown[] = [];
beforeEach(() => void (before = own()));
afterEach(() => expect(own()).toEqual(before));

async function look(options: SpawnOptions, see: (child: Child) => void): Promise<void> {
  for (const confine of [[], [ownRoot]]) {
    await using child = await spawn('/bin/sleep', ['60'], { stdio: 'ignore', confine, ...options });
    see(child);
  }
}

describe('attributes, as /proc shows them', () => {
  it('umask, limits, nice, affinity, oom_score_adj, session', async () => {
    const rlimits = {
      nofile: { soft: 70, hard: 80 },
      core: 0,
      fsize: 12_345,
      stack: { soft: 65_536 * 16, hard: 'unlimited' },
    } as const;
    await look({ umask: 0o27, rlimits, nice: 7, affinity: [0], oomScoreAdj: 321, session: true }, ({ pid }) => {
      expect(status(pid, 'Umask')).toBe('0027');
      const limits = read(pid, 'limits');
      expect(limits).toMatch(/Max open files\s+70\s+80 /);
      expect(limits).toMatch(/Max core file size\s+0\s+0 /);
      expect(limits).toMatch(/Max file size\s+12345\s+12345 /);
      expect(limits).toMatch(/Max stack size\s+1048576\s+unlimited /);
      expect(stat(pid, 19)).toBe(7);
      expect(status(pid, 'Cpus_allowed_list')).toBe('0');
      expect(read(pid, 'oom_score_adj')).toBe('321\n');
      expect([stat(pid, 5), stat(pid, 6)]).toEqual([pid, pid]);
    });
  });

  it.skipIf(!root)('ids and groups [needs root]', async () => {
    await look({ uid: 1234, gid: 2345, groups: [9, 7] }, ({ pid }) => {
      expect(status(pid, 'Uid')).toBe('1234\t1234\t1234\t1234');
      expect(status(pid, 'Gid')).toBe('2345\t2345\t2345\t2345');
      expect(status(pid, 'Groups')).toBe('7 9');
      expect(status(pid, 'CapEff')).toBe('0000000000000000');
    });
    await look({ uid: 1234 }, ({ pid }) => expect(status(pid, 'Groups')).toBe(''));
    await look({ groups: [] }, ({ pid }) =>
      expect([status(pid, 'Groups'), status(pid, 'Uid')?.slice(0, 1)]).toEqual(['', '0']),
    );
  });

  it('oom_score_adj of a launch that may stand still is the child’s alone', async () => {
    const still: Part = { confine: (program) => program.mayBlock() };
    await look({ oomScoreAdj: 99, confine: [still] }, ({ pid }) => expect(read(pid, 'oom_score_adj')).toBe('99\n'));
  });

  it('parentDeathSignal: with this process, and with the worker thread that started it', {
    timeout: 120_000,
  }, async () => {
    const gone = (pid: string) => {
      const line = (() => {
        try {
          return read(Number(pid), 'stat');
        } catch {
          return 'x) Z';
        }
      })();
      return line.includes(') Z');
    };
    const wait = (pid: string) => {
      for (let i = 0; i < 500 && !gone(pid); i++) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
      return gone(pid);
    };
    const start = `const child = await iso.spawn('sleep', ['60'], { stdio: 'ignore', parentDeathSignal: 'SIGKILL' });`;
    const line = await inNode(`${start} console.log(child.pid); process.kill(process.pid, 'SIGKILL');`, {
      shell: '"$0" "$@"; exit 0',
    });
    const pid = line.trim();
    expect(wait(pid)).toBe(true);
    const sources = importSource(new URL('index.ts', import.meta.url));
    const out = await inNode(`
      const { Worker } = await import('node:worker_threads');
      const worker = new Worker(\`${sources}.then(async (iso) => {
        ${start} require('node:worker_threads').parentPort.once('message', () => process.exit()).postMessage(child.pid); });\`,
        { eval: true, execArgv: ['--conditions=iso-source'] });
      const pid = await new Promise((resolve) => worker.once('message', resolve));
      const { readFileSync } = await import('node:fs');
      const state = () => /\\) (.)/.exec(readFileSync('/proc/' + pid + '/stat', 'utf8'))[1];
      const first = state(); worker.postMessage('end');
      let last; for (let i = 0; i < 500 && (last = state()) !== 'Z'; i++) await new Promise((r) => setTimeout(r, 10));
      console.log(first !== 'Z', last);`);
    expect(out).toBe('true Z\n');
  });

  it.each<[string, Attributes | Record<string, unknown>]>([
    ['uid', { uid: -1 }],
    ['uid', { uid: 0xffffffff }],
    ['uid', { uid: 1.5 }],
    ['uid', { uid: '0' }],
    ['gid', { gid: 2 ** 32 }],
    ['groups', { groups: [1, -2] }],
    ['groups', { groups: Array(65_537).fill(1) }],
    ['umask', { umask: 0o1000 }],
    ['umask', { umask: -1 }],
    ['nice', { nice: 20 }],
    ['nice', { nice: -21 }],
    ['affinity', { affinity: [] }],
    ['affinity', { affinity: [1024] }],
    ['oomScoreAdj', { oomScoreAdj: 1001 }],
    ['oomScoreAdj', { oomScoreAdj: Number.NaN }],
    ['rlimits', { rlimits: { nofile: -1 } }],
    ['rlimits', { rlimits: { nofile: { soft: 1 } } }],
    ['resource limit', { rlimits: { files: 1 } }],
    ['signal', { parentDeathSignal: 'SIGNONE' }],
    ['signal', { parentDeathSignal: 65 }],
  ])('refuses what is out of range: %s %j', async (word, options) => {
    const error = await spawn('true', [], options as Attributes).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' });
    expect((error as Error).message).toContain(word);
  });

  it('says what is missing where the kernel says no', async () => {
    await expect(spawn('true', [], { affinity: [1023] })).rejects.toMatchObject({
      code: 'EINVAL',
      syscall: 'sched_setaffinity',
      hint: expect.stringMatching(/processors/),
    });
    await expect(spawn('true', [], { rlimits: { nofile: { soft: 9, hard: 8 } } })).rejects.toMatchObject({
      code: 'EINVAL',
      step: { phase: 'limits' },
    });
    if (root) return;
    await expect(spawn('true', [], { uid: 0 })).rejects.toMatchObject({
      code: 'EPERM',
      hint: expect.stringMatching(/CAP_SETUID/),
    });
    await expect(spawn('true', [], { nice: -1 })).rejects.toMatchObject({
      code: 'EACCES',
      hint: expect.stringMatching(/CAP_SYS_NICE/),
    });
    await expect(spawn('true', [], { groups: [1] })).rejects.toMatchObject({
      code: 'EPERM',
      hint: expect.stringMatching(/CAP_SETGID/),
    });
  });
});

describe('init', () => {
  it('works for a plain user too, in a user namespace of its own', async () => {
    using parked = park(CLONE.NEWUSER);
    const write = (file: string, text: string) => {
      using fd = Fd.open(`/proc/${parked.pid}/${file}`, { flags: O.WRONLY });
      syscall('write', fd, text, text.length);
    };
    if (!root) write('setgroups', 'deny');
    write('uid_map', `0 ${process.getuid?.()} 1\n`);
    write('gid_map', `0 ${process.getgid?.()} 1\n`);
    using user = Fd.open(`/proc/${parked.pid}/ns/user`);
    const part: Part = {
      confine(program) {
        program.join(user, CLONE.NEWUSER, { exposed: false });
        program.unshare(CLONE.NEWPID);
      },
    };
    const script = 'id -u; echo $$; kill -TERM $$';
    expect(await run('sh', ['-c', script], { confine: [part], init: true, check: false })).toMatchObject({
      code: 143,
      stdout: '0\n2\n',
    });
  });
});
