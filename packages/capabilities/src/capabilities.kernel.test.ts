import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Fd, type Part } from '@iso/sys';
import { afterAll, describe, expect, it } from 'vitest';
import { inside } from '../../../test/confined.js';
import { fromSources } from '../../../test/typescript.js';
import {
  capabilities,
  capabilitiesOf,
  capget,
  dockerCapabilities,
  formatFileCapabilities,
  lastCapability,
  maskOf,
  parseCapabilities,
  readFileCapabilities,
  removeFileCapabilities,
  secureBits,
  writeFileCapabilities,
} from './index.js';

const folder = mkdtempSync(join(tmpdir(), 'iso-capabilities-'));
afterAll(() => rmSync(folder, { recursive: true }));
const root = process.getuid?.() === 0;
const has = (tool: string) => spawnSync('sh', ['-c', `command -v ${tool}`]).status === 0;
const tool = (name: string, ...args: string[]) => {
  const { stdout, stderr, status } = spawnSync(name, args, { encoding: 'utf8' });
  expect(stderr).toBe('');
  expect(status).toBe(0);
  return stdout.trim();
};
const hex = (mask: bigint) => mask.toString(16).padStart(16, '0');
const own = capabilitiesOf();

/** Another user. */
const plain: Part = {
  confine(program) {
    program.step('credentials', 'setgroups', [0, null]);
    program.step('credentials', 'setresgid', [1000, 1000, 1000]);
    program.step('credentials', 'setresuid', [1000, 1000, 1000]);
  },
};
const both = (...parts: Part[]): Part => ({
  confine: async (program) => {
    for (const part of parts) await part.confine(program);
  },
});
async function sets(part: Part): Promise<Record<string, bigint>> {
  const text = await inside(part, 'grep -E "^Cap|^NoNew" /proc/self/status');
  return Object.fromEntries(
    [...text.matchAll(/^(\w+):\t(\w+)$/gm)].map(([, name, value]) => [name, BigInt(`0x${value}`)]),
  );
}

describe('capabilitiesOf', () => {
  it('agrees with capget(2), and reads any process', () => {
    const { permitted, effective, inheritable } = capabilitiesOf();
    expect(capget()).toEqual({ permitted, effective, inheritable });
    expect(capget(1)).toMatchObject({ permitted: capabilitiesOf(1).permitted });
    expect(capabilitiesOf(process.pid)).toEqual(capabilitiesOf());
    expect(() => capabilitiesOf(2 ** 22 + 1)).toThrow(expect.objectContaining({ code: 'ESRCH' }));
    expect(() => capget(2 ** 22 + 1)).toThrow(expect.objectContaining({ code: 'ESRCH' }));
    expect(() => capabilitiesOf(-1)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
    expect(secureBits()).toEqual([]);
  });

  it.skipIf(!has('getpcaps'))('agrees with getpcaps [needs getpcaps]', () => {
    const { stdout, stderr } = spawnSync('getpcaps', [String(process.pid)], { encoding: 'utf8' });
    const [, said = ''] = /^\d+: (.*)$/m.exec(`${stdout}${stderr}`) ?? [];
    const capsh = spawnSync('capsh', [`--decode=${hex(own.effective)}`], { encoding: 'utf8' }).stdout;
    expect(parseCapabilities(capsh.split('=')[1]?.trim() ?? '')).toBe(own.effective);
    if (own.effective === 0n) expect(said).toBe('=');
    else expect(said).toMatch(/=(ep|\S+ .*-ep)|=ep/);
  });
});

describe('capabilities()', () => {
  it.skipIf(!root)('gives root what is bounding, and nothing else [needs root]', async () => {
    const few = maskOf(dockerCapabilities) & own.bounding;
    expect(await sets(capabilities({ bounding: dockerCapabilities }))).toMatchObject({
      CapInh: 0n,
      CapPrm: few,
      CapEff: few,
      CapBnd: maskOf(dockerCapabilities),
      CapAmb: 0n,
      NoNewPrivs: 0n,
    });
    expect(await sets(capabilities({ bounding: [], noNewPrivileges: true }))).toEqual({
      ...{ CapInh: 0n, CapPrm: 0n, CapEff: 0n, CapBnd: 0n, CapAmb: 0n, NoNewPrivs: 1n },
    });
  });

  it.skipIf(!root)('gives another user what is ambient [needs root]', async () => {
    const part = both(plain, capabilities({ bounding: ['NET_BIND_SERVICE', 'KILL'], ambient: ['NET_BIND_SERVICE'] }));
    const bind = maskOf(['NET_BIND_SERVICE']);
    expect(await sets(part)).toMatchObject({
      ...{ CapInh: bind, CapPrm: bind, CapEff: bind, CapAmb: bind },
      CapBnd: maskOf(['NET_BIND_SERVICE', 'KILL']),
    });
    expect(await sets(both(plain, capabilities({ permitted: ['KILL'] })))).toMatchObject({ CapPrm: 0n, CapEff: 0n });
    expect(
      await sets(both(capabilities({ inheritable: ['KILL'], permitted: ['KILL', 'CHOWN'] }), plain)),
    ).toMatchObject({
      ...{ CapInh: maskOf(['KILL']), CapPrm: 0n, CapEff: 0n },
    });
  });

  it.skipIf(!root || !has('capsh'))('is what capsh sees [needs root, capsh]', async () => {
    const part = both(
      plain,
      capabilities({ bounding: ['CHOWN', 'KILL'], ambient: ['KILL'], securebits: ['noroot', 'noroot-locked'] }),
    );
    const text = await inside(part, 'capsh --print');
    expect(text).toMatch(/^Current: cap_kill=eip$/m);
    expect(text).toMatch(/^Bounding set =cap_chown,cap_kill$/m);
    expect(text).toMatch(/^Ambient set =cap_kill$/m);
    expect(text).toMatch(/secure-noroot: yes \(locked\)/);
  });

  it.skipIf(!root)('sets securebits that forbid what it still does before [needs root]', async () => {
    const securebits = ['no-cap-ambient-raise', 'no-cap-ambient-raise-locked', 'noroot'] as const;
    const seen = await sets(both(plain, capabilities({ ambient: ['KILL'], securebits })));
    expect(seen).toMatchObject({ CapAmb: maskOf(['KILL']), CapPrm: maskOf(['KILL']) });
    // Root without its powers: nothing but what is ambient.
    expect(await sets(capabilities({ securebits: ['noroot'], ambient: [] }))).toMatchObject({ CapPrm: 0n, CapEff: 0n });
    expect(await sets(capabilities({ securebits: ['noroot'] }))).toMatchObject({ CapPrm: 0n, CapEff: 0n });
    // Another user, who has nothing by then.
    expect(await sets(both(plain, capabilities({ permitted: [], securebits: ['noroot'] })))).toMatchObject({
      CapPrm: 0n,
    });
  });

  it.skipIf(!root || !has('capsh'))('takes away what the caller has inheritable [needs root, capsh]', () => {
    const script = `const caps = await import(${JSON.stringify(join(import.meta.dirname, 'index.ts'))});
      const { inside } = await import(${JSON.stringify(join(import.meta.dirname, '../../../test/confined.ts'))});
      const grep = 'grep -E "^Cap(Inh|Amb|Prm)" /proc/self/status';
      const none = { confine() {} };
      console.log(await inside(none, grep) + await inside(caps.capabilities({ bounding: ['CHOWN'] }), grep));`;
    const node = [process.execPath, ...fromSources, '--input-type=module', '-e', script];
    const shell = ['--inh=cap_net_raw,cap_bpf', '--addamb=cap_net_raw', '--', '-c', 'exec "$0" "$@"', ...node];
    const { stdout, stderr } = spawnSync('capsh', shell, { encoding: 'utf8', cwd: import.meta.dirname });
    const lines = stdout.trim().split('\n');
    expect(lines, stderr).toHaveLength(6);
    expect(lines[0]).toBe(`CapInh:\t${hex(maskOf(['NET_RAW', 'BPF']))}`);
    expect(lines[2]).toBe(`CapAmb:\t${hex(maskOf(['NET_RAW']))}`);
    expect(lines.slice(3)).toEqual([`CapInh:\t${hex(0n)}`, `CapPrm:\t${hex(1n)}`, `CapAmb:\t${hex(0n)}`]);
  });

  it.skipIf(!root)('says which step was refused, and why [needs root]', async () => {
    const missing = Array.from({ length: lastCapability() + 1 }, (_, i) => i).find(
      (i) => !((own.permitted >> BigInt(i)) & 1n),
    );
    if (missing !== undefined)
      await expect(inside(capabilities({ permitted: [String(missing)] }), 'true')).rejects.toMatchObject({
        code: 'EPERM',
        syscall: 'capset',
        hint: expect.stringMatching(/does not have/),
      });
    const late: Part = { confine: (program) => void program.step('birth', 'setresuid', [1000, 1000, 1000]) };
    await expect(inside(both(late, capabilities({ bounding: [] })), 'true')).rejects.toMatchObject({
      code: 'EPERM',
      syscall: 'prctl',
      hint: expect.stringMatching(/CAP_SETPCAP/),
    });
  });

  it('gives up what a plain user has without any privilege', async () => {
    const part = root
      ? both(plain, capabilities({ permitted: [], noNewPrivileges: true }))
      : capabilities({ permitted: [], noNewPrivileges: true });
    expect(await sets(part)).toMatchObject({ CapInh: 0n, CapPrm: 0n, CapEff: 0n, CapAmb: 0n, NoNewPrivs: 1n });
  });

  it('changes nothing of this process', async () => {
    await inside(capabilities({ noNewPrivileges: true }), 'true');
    expect(capabilitiesOf()).toEqual(own);
  });
});

describe.skipIf(!root || !has('setcap'))('file capabilities [needs root, getcap, setcap]', () => {
  const file = join(folder, 'program');
  writeFileSync(file, '');

  it('are what getcap prints', () => {
    for (const options of [
      { permitted: ['NET_RAW'] },
      { permitted: ['CHOWN', 'BPF'], effective: false },
      { permitted: ['CHOWN', 'KILL'], inheritable: ['CHOWN', 'KILL'] },
      { inheritable: ['SYS_ADMIN'] },
    ]) {
      writeFileCapabilities(file, options);
      expect(tool('getcap', file)).toBe(`${file} ${formatFileCapabilities(readFileCapabilities(file) as never)}`);
    }
    writeFileCapabilities(file, { permitted: ['NET_RAW'], rootid: 100_000 });
    expect(tool('getcap', '-n', file)).toBe(`${file} cap_net_raw=ep [rootid=100000]`);
    expect(readFileCapabilities(file)).toMatchObject({ rootid: 100_000 });
  });

  it('are what setcap wrote', () => {
    tool('setcap', 'cap_net_raw,cap_kill=ep', file);
    expect(readFileCapabilities(file)).toEqual({
      permitted: maskOf(['NET_RAW', 'KILL']),
      inheritable: 0n,
      effective: true,
    });
    tool('setcap', '-n', '1000', 'cap_chown=ei', file);
    expect(readFileCapabilities(file)).toEqual({ permitted: 0n, inheritable: 1n, effective: true, rootid: 1000 });
  });

  it('go away, by path and by descriptor', () => {
    using fd = Fd.open(file);
    writeFileCapabilities(fd, { permitted: ['CHOWN'] });
    expect(tool('getcap', file)).toBe(`${file} cap_chown=ep`);
    expect(readFileCapabilities(fd)?.permitted).toBe(1n);
    removeFileCapabilities(fd);
    removeFileCapabilities(file);
    expect(readFileCapabilities(file)).toBeUndefined();
    expect(tool('getcap', file)).toBe('');
    const nowhere = expect.objectContaining({ code: 'ENOENT', path: join(folder, 'nowhere') });
    expect(() => readFileCapabilities(join(folder, 'nowhere'))).toThrow(nowhere);
    expect(() => writeFileCapabilities(join(folder, 'nowhere'), { permitted: [] })).toThrow(nowhere);
    expect(() => writeFileCapabilities(file, { permited: [] } as never)).toThrow(/no option "permited"/);
  });

  it('give a program what they say, but not under no_new_privs', async () => {
    const program = join(folder, 'cat');
    writeFileSync(program, readFileSync('/bin/cat'), { mode: 0o755 });
    spawnSync('chmod', ['711', folder]);
    writeFileCapabilities(program, { permitted: ['NET_RAW'] });
    const seen = async (part: Part) => /CapEff:\t(\w+)/.exec(await inside(part, `${program} /proc/self/status`))?.[1];
    expect(await seen(plain)).toBe(hex(maskOf(['NET_RAW'])));
    expect(await seen(both(plain, capabilities({ noNewPrivileges: true })))).toBe(hex(0n));
  });
});
