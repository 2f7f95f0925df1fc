import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { command } from '../testing/command.js';

const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const env = { ...process.env, ISO_ROOT: join(folder, 'state') };

function iso(...args: string[]) {
  return spawnSync(process.execPath, [...command, ...args], { encoding: 'utf8', env });
}

/** A container that runs until its input ends. */
async function start(...args: string[]): Promise<ChildProcess> {
  const child = spawn(
    process.execPath,
    [...command, 'run', '--rm', ...args, '-i', '/', 'sh', '-c', 'echo up; read _'],
    {
      env,
    },
  );
  await once(child.stdout as NodeJS.ReadableStream, 'data');
  return child;
}

const records = () => readdirSync(join(folder, 'state/containers')).filter((name) => name !== 'lock');

describe('the record of a container', () => {
  it('is found by other commands while it runs; its name is its own', async () => {
    const child = await start('--name', 'one');
    const exited = once(child, 'exit');
    const [id = ''] = records();
    // Judged by the kernel: the process that stands there is the one that waits for input, and is 1 in its namespace.
    const read = () => JSON.parse(readFileSync(join(folder, 'state/containers', id, 'state.json'), 'utf8'));
    // It may speak before its command has written down that it runs.
    for (let i = 0; i < 500 && read().pid === undefined; i++) await sleep(10);
    const { pid } = read();
    expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).toBe('sh\0-c\0echo up; read _\0');
    expect(readFileSync(`/proc/${pid}/status`, 'utf8')).toMatch(/^NSpid:\t.*\t1$/m);
    expect(iso('ps', '-q').stdout).toBe(`${id.slice(0, 12)}\n`);
    expect(iso('ps').stdout).toMatch(
      new RegExp(
        `^CONTAINER ID +IMAGE +COMMAND +CREATED +STATUS +PORTS +NAMES\n${id.slice(0, 12)} +/ +"sh -c .*Up .* +one\n$`,
      ),
    );
    const second = iso('run', '--rm', '--name', 'one', '/', 'true');
    expect(second.status).toBe(125);
    expect(second.stderr).toBe(`iso: the name "one" is in use by container ${id.slice(0, 12)}\n`);
    expect(iso('kill', '-s', 'nonsense', 'one').status).toBe(125);
    expect(iso('kill', 'two').stderr).toBe('iso: no such container: two\n');
    expect(iso('kill', id.slice(0, 5)).stdout).toBe(`${id.slice(0, 5)}\n`);
    expect(await exited).toEqual([137, null]);
    expect(records()).toEqual([]);
    expect(iso('ps', '-q').stdout).toBe('');
  }, 60_000);

  it('dies with the process that runs it', async () => {
    const child = await start('--name', 'two');
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
    expect(records()).toHaveLength(1);
    expect(iso('run', '--rm', '--name', 'two', '/', 'true').status).toBe(0);
    expect(records()).toEqual([]);
  }, 60_000);

  it('that cannot be read is told of, keeps no command from its work, and goes by its id', () => {
    const made = ['a', 'b', 'c'].map((name) => iso('create', '--name', name, '/', 'true').stdout.trim());
    const [damaged = '', newer = '', whole = ''] = made;
    const file = (id: string) => join(folder, 'state/containers', id, 'state.json');
    writeFileSync(file(damaged), '{"version":2,"id":');
    writeFileSync(file(newer), readFileSync(file(newer), 'utf8').replace('"version":2', '"version":3'));
    const complaint = (id: string, why: string) =>
      expect.stringContaining(`iso: the record of container ${id.slice(0, 12)} cannot be read: ${why}`);
    for (const args of [
      ['ps', '-aq', '--no-trunc'],
      ['start', 'c'],
      ['wait', 'c'],
      ['inspect', '-f', '{{.Id}}', 'c'],
    ]) {
      const { status, stderr, stdout } = iso(...args);
      expect([args, status, stdout.includes(whole) || args[0] !== 'ps']).toEqual([args, 0, true]);
      const said = stderr.trim().split('\n');
      expect(said).toHaveLength(2);
      expect(said).toEqual(
        expect.arrayContaining([complaint(damaged, 'U'), complaint(newer, 'it is of another version')]),
      );
    }
    // Nobody but who names it removes what may be somebody's.
    expect(iso('system', 'prune', '-f').status).toBe(0);
    expect(records().sort()).toEqual([damaged, newer].sort());
    expect(iso('rm', damaged.slice(0, 12)).status).toBe(125);
    for (const id of [damaged, newer]) expect(iso('rm', '-f', id.slice(0, 12)).status).toBe(0);
    expect(records()).toEqual([]);
    expect(iso('ps', '-a')).toMatchObject({ status: 0, stderr: '' });
  }, 240_000);

  it('of which a part is something else is told of, and the others are shown', () => {
    const damage: [change: object, why: string][] = [
      [{ command: 7 }, 'command is not a list of texts'],
      [{ flags: { restart: 'sometimes' } }, 'not a restart policy: "sometimes"'],
      [{ flags: { volume: '/:/' } }, 'flags.volume is not a list of texts'],
      [{ labels: { of: 7 } }, 'a label is no text'],
      [{ status: 'well' }, 'its status is "well"'],
      [{ pid: -1 }, 'its pid is -1'],
    ];
    const made = [...damage, 'fifo', 'link', 'whole'].map(() => iso('create', '/', 'true').stdout.trim());
    const file = (id: string) => join(folder, 'state/containers', id, 'state.json');
    const whys = new Map<string, string>();
    for (const [i, [change, why]] of damage.entries()) {
      const id = made[i] as string;
      writeFileSync(file(id), JSON.stringify({ ...JSON.parse(readFileSync(file(id), 'utf8')), ...change }));
      whys.set(id, why);
    }
    const [fifo = '', link = '', whole = ''] = made.slice(damage.length);
    rmSync(file(fifo));
    spawnSync('mkfifo', [file(fifo)]);
    whys.set(fifo, 'it is no regular file');
    rmSync(file(link));
    symlinkSync(file(whole), file(link));
    whys.set(link, 'ELOOP');
    const { stdout, stderr, status } = iso('ps', '-aq', '--no-trunc');
    expect([stdout, status]).toEqual([`${whole}\n`, 0]);
    const said = stderr.trim().split('\n');
    expect(said).toHaveLength(whys.size);
    for (const [id, why] of whys) expect(said.find((line) => line.includes(id.slice(0, 12)))).toContain(why);
    for (const id of made) expect(iso('rm', '-f', id.slice(0, 12)).status).toBe(0);
    expect(records()).toEqual([]);
  }, 120_000);

  it('whose number was given to another does nothing to that', async () => {
    const child = await start('--name', 'three');
    const exited = once(child, 'exit');
    const [id = ''] = records();
    const file = join(folder, 'state/containers', id, 'state.json');
    for (let i = 0; i < 500 && JSON.parse(readFileSync(file, 'utf8')).pid === undefined; i++) await sleep(10);
    const written = readFileSync(file, 'utf8');
    const other = spawn('sleep', ['60']);
    try {
      writeFileSync(file, JSON.stringify({ ...JSON.parse(written), pid: other.pid }));
      for (const args of [
        ['kill', 'three'],
        ['exec', 'three', 'true'],
        ['top', 'three'],
        ['kill', '-s', 'USR1', 'three'],
      ])
        expect([args, iso(...args)]).toMatchObject([
          args,
          { status: 125, stdout: '', stderr: 'iso: the process of container three has ended\n' },
        ]);
      expect([other.exitCode, other.signalCode]).toEqual([null, null]);
      writeFileSync(file, written);
      expect(iso('kill', 'three').status).toBe(0);
      await exited;
      expect([other.exitCode, other.signalCode]).toEqual([null, null]);
    } finally {
      other.kill('SIGKILL');
      child.kill('SIGKILL');
    }
  }, 60_000);

  it('whose number was given to another is ended by who runs it', () => {
    const id = iso('run', '-d', '--name', 'four', '/', 'sleep', '60').stdout.trim();
    const file = join(folder, 'state/containers', id, 'state.json');
    const state = JSON.parse(readFileSync(file, 'utf8'));
    const other = spawn('sleep', ['60']);
    try {
      writeFileSync(file, JSON.stringify({ ...state, pid: other.pid }));
      const options = { encoding: 'utf8', env, timeout: 20_000 } as const;
      expect(spawnSync(process.execPath, [...command, 'rm', '-f', 'four'], options)).toMatchObject({ status: 0 });
      expect([other.exitCode, other.signalCode, existsSync(`/proc/${state.pid}`)]).toEqual([null, null, false]);
      expect(records()).toEqual([]);
    } finally {
      other.kill('SIGKILL');
      if (existsSync(file)) {
        writeFileSync(file, JSON.stringify(state));
        iso('rm', '-f', 'four');
      }
    }
  }, 60_000);

  it('is removed with all others that do not run, by who agrees', async () => {
    const child = await start('--name', 'runs');
    const exited = once(child, 'exit');
    const over = iso('create', '/', 'true').stdout.trim();
    const ask = (input: string) =>
      spawnSync(process.execPath, [...command, 'system', 'prune'], { encoding: 'utf8', env, input });
    for (const input of ['', 'n\n', 'yo\n']) {
      expect(ask(input)).toMatchObject({ status: 0, stderr: '', stdout: expect.stringMatching(/\[y\/N\] $/) });
      expect(records()).toContain(over);
    }
    expect(ask('y\n')).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(new RegExp(`Deleted Containers:\n${over}\n\nTotal reclaimed space: `)),
    });
    expect(records()).toHaveLength(1);
    child.stdin?.end();
    await exited;
    expect(records()).toEqual([]);
  }, 60_000);

  it('is not kept where others can write', () => {
    const { status, stderr } = spawnSync(process.execPath, [...command, 'run', '--rm', '/', 'true'], {
      encoding: 'utf8',
      env: { ...env, ISO_ROOT: '/tmp' },
    });
    expect(status).toBe(125);
    expect(stderr).toBe("iso: /tmp is not this user's own directory, or others can write there: set ISO_ROOT\n");
  });
});
