import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run as runProgram } from '@iso/process';
import { afterAll, describe, expect, it } from 'vitest';
import { output } from './attack/fixture.js';
import { type Hook, type Hooks, run } from './index.js';
import { lacking } from './testing/lacking.js';

const missing = lacking();
const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const file = (name: string) => join(folder, name);
const read = (name: string) => (existsSync(file(name)) ? readFileSync(file(name), 'utf8') : '');
const hook = (script: string, more: Partial<Hook> = {}): Hook => ({
  path: '/bin/sh',
  args: ['sh', '-c', script],
  ...more,
});
/** One of each, which writes down what it is told. */
const all = (name: string): Hooks => ({
  prestart: [hook(`cat >${file(`${name}.prestart`)}`)],
  poststart: [hook(`cat >${file(`${name}.poststart`)}`)],
  poststop: [hook(`cat >${file(`${name}.poststop`)}`)],
});

describe.skipIf(missing)(`hooks${missing}`, () => {
  it('run on the host before its program, when that runs, and when nothing is left of it', async () => {
    const mark = file('ran');
    const volumes = [{ source: folder, target: '/seen', readonly: false }];
    const hooks = all('a');
    // As the kernel sees it: namespaces are there, and the program is not executed.
    const look = `pid=$(sed 's/.*"pid":\\([0-9]*\\).*/\\1/' ${file('a.prestart')}); test ! -e ${mark} && grep NSpid /proc/$pid/status >${file('nspid')} && tr '\\0' ' ' </proc/$pid/cmdline >${file('cmdline')}`;
    const box = await run({
      root: '/',
      name: 'hooked',
      accounting: true,
      command: ['sh', '-c', 'echo ran >/seen/ran; exec sleep 100'],
      volumes,
      hooks: { ...hooks, prestart: [...(hooks.prestart ?? []), hook(look)] },
    });
    const { pid } = box.child;
    const cgroup = box.cgroup?.path() as string;
    expect(JSON.parse(read('a.prestart'))).toMatchObject({ id: 'hooked', status: 'created', pid, bundle: '/' });
    expect(JSON.parse(read('a.poststart'))).toMatchObject({ id: 'hooked', status: 'running', pid });
    expect(read('nspid')).toBe(`NSpid:\t${pid}\t1\n`);
    expect(read('cmdline')).not.toMatch(/^sh -c/);
    expect(existsSync(cgroup)).toBe(true);
    expect(read('a.poststop')).toBe('');
    box.child.kill('SIGKILL');
    await box.exited;
    expect(JSON.parse(read('a.poststop'))).toEqual({
      ociVersion: '1.2.0',
      id: 'hooked',
      status: 'stopped',
      bundle: '/',
      annotations: {},
    });
    expect(existsSync(cgroup)).toBe(false);
  });

  it('that fail end it: before its program has run, or after, and the last ones run all the same', async () => {
    for (const point of ['prestart', 'poststart'] as const) {
      const hooks = { ...all(point), [point]: [hook('echo because >&2; exit 3')] };
      const volumes = [{ source: folder, target: '/seen', readonly: false }];
      const command = ['sh', '-c', `echo ran >/seen/${point}.ran; exec sleep 100`];
      await expect(run({ root: '/', command, volumes, hooks })).rejects.toMatchObject({
        name: 'HookError',
        message: `the ${point} hook /bin/sh ended with 3: because`,
      });
      expect(JSON.parse(read(`${point}.poststop`))).toMatchObject({ status: 'stopped' });
    }
    expect(read('prestart.ran')).toBe('');
    await expect(run({ root: '/', command: ['true'], hooks: { prestart: [{ path: '/no/such' }] } })).rejects.toThrow(
      /prestart hook \/no\/such cannot be run: .*ENOENT/,
    );
    // A failure of the program is told as ever.
    await expect(run({ root: '/', command: ['no-such'], hooks: all('b') })).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('have their time, whatever they leave running and do not read', async () => {
    const began = Date.now();
    const slow = [hook('exec sleep 100', { timeout: 0.3 })];
    await expect(run({ root: '/', command: ['true'], hooks: { prestart: slow } })).rejects.toThrow(
      'took longer than 0.3 s',
    );
    const forks = [hook('exec <&-; sleep 2 & exit 0')];
    const box = await run({ root: '/', command: ['true'], hooks: { prestart: forks, poststop: forks } });
    expect((await box.exited).code).toBe(0);
    const abort = new AbortController();
    const waits = [hook(`touch ${file('waits')}; exec sleep 100`)];
    const given = run({ root: '/', command: ['true'], hooks: { prestart: waits }, signal: abort.signal });
    const timer = setInterval(() => existsSync(file('waits')) && abort.abort(), 20);
    await expect(given).rejects.toThrow('was ended by SIGKILL');
    clearInterval(timer);
    // Not the hundred seconds that each of them would take.
    expect(Date.now() - began).toBeLessThan(20_000);
  });

  it('have neither the container’s variables nor this process’s (CVE-2024-0132, CVE-2025-23266)', async () => {
    process.env.ISO_TEST_SECRET = 'of the host';
    writeFileSync(file('print'), `#!/bin/sh\nenv >${file('env')}\n`);
    chmodSync(file('print'), 0o755);
    try {
      const env = ['LD_PRELOAD=/evil.so', 'NODE_OPTIONS=--require /evil.js'];
      const hooks = { prestart: [{ path: file('print'), env: ['OWN=1'] }] };
      const box = await run({ root: '/', command: ['true'], env, hooks });
      await output(box);
      expect(
        read('env')
          .split('\n')
          .filter((line) => !/^(PWD|SHLVL|_|OLDPWD)=/.test(line))
          .sort(),
      ).toEqual(['', 'OWN=1']);
      // An engine that hands on what it has.
      await runProgram(file('print'), [], { env: { ...process.env, ...box.confinement.env } });
      for (const word of ['LD_PRELOAD=/evil.so', 'NODE_OPTIONS=', 'of the host']) expect(read('env')).toContain(word);
    } finally {
      delete process.env.ISO_TEST_SECRET;
    }
  });

  it('that make no sense are refused before there is anything', async () => {
    for (const hooks of [
      { prestart: [{ path: 'true' }] },
      { prestop: [{ path: '/bin/true' }] },
      { poststop: [{ path: '/bin/true', timeout: 0 }] },
      { poststart: [{ path: '/bin/true', env: ['HOME'] }] },
    ] as Hooks[])
      await expect(run({ root: '/', command: ['true'], hooks })).rejects.toMatchObject({ name: 'UsageError' });
  });
});
