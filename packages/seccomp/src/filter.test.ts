import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { syscallNumbers } from '@iso/sys';
import { describe, expect, it } from 'vitest';
import { decode, encode } from './action.js';
import type { Architecture } from './architecture.js';
import { anyFilter, Dice, disassemble, interpret } from './fixture.js';
import { type Action, Filter, type FilterOptions } from './index.js';
import { AUDIT_ARCH } from './raw/seccomp.js';

const eperm = { errno: 'EPERM' };
const refusal = (message: RegExp) =>
  expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE', message: expect.stringMatching(message) });

describe('Filter', () => {
  it('decides by the first rule that matches', () => {
    const filter = new Filter({
      default: eperm,
      architecture: 'x64',
      rules: [
        { calls: ['read', 'write'], action: 'allow' },
        { calls: ['write'], action: 'kill-process' },
        { calls: ['socket'], action: 'allow', args: [{ arg: 0, op: '<', value: 38 }] },
        {
          calls: ['socket'],
          action: { errno: 'EAFNOSUPPORT' },
          args: [
            { arg: 0, op: '==', value: 40 },
            { arg: 1, op: '!=', value: 1 },
          ],
        },
        {
          calls: ['ioctl'],
          action: { errno: 'ENOTTY' },
          args: [{ arg: 1, op: 'masked', value: 0x5412, mask: 0xffffffff }],
        },
        { calls: ['ioctl'], action: 'allow' },
      ],
    });
    expect(filter.evaluate('write')).toBe('allow');
    expect(filter.evaluate('open')).toEqual(eperm);
    expect(filter.evaluate('socket', [2])).toBe('allow');
    expect(filter.evaluate('socket', [40, 2])).toEqual({ errno: 'EAFNOSUPPORT' });
    expect(filter.evaluate('socket', [40, 1])).toEqual(eperm);
    expect(filter.evaluate('ioctl', [0, 0x5412])).toEqual({ errno: 'ENOTTY' });
    expect(filter.evaluate('ioctl', [0, 0xdead00005412n])).toEqual({ errno: 'ENOTTY' });
    expect(filter.evaluate('ioctl', [0, 0x5413])).toBe('allow');
    expect(filter.evaluate('socket', [-1])).toEqual(eperm);
  });

  it('answers what is newer than its table as an older kernel would, and refuses other ABIs', () => {
    const strict = new Filter({ default: eperm, architecture: 'x64' });
    expect(strict.evaluate(4000)).toEqual({ errno: 'ENOSYS' });
    expect(strict.evaluate(400)).toEqual({ errno: 'ENOSYS' });
    expect(strict.evaluate('read', [], { foreign: true })).toBe('kill-process');
    expect(strict.evaluate(0x40000000)).toBe('kill-process');
    expect(new Filter({ default: eperm, architecture: 'arm64' }).evaluate(0x40000000)).toEqual({ errno: 'ENOSYS' });
    expect(new Filter({ default: 'allow' }).evaluate(4000)).toBe('allow');
    expect(new Filter({ default: 'kill-process' }).evaluate(4000)).toEqual({ errno: 'ENOSYS' });
    expect(new Filter({ default: eperm, unknown: 'trap' }).evaluate(4000)).toBe('trap');
  });

  it('passes over calls that only the other architecture has', () => {
    const rules = [{ calls: ['open', 'openat'], action: 'allow' as const }];
    const filter = new Filter({ default: eperm, rules, architecture: 'arm64' });
    expect(filter.evaluate('openat')).toBe('allow');
    expect(() => filter.evaluate('open')).toThrow(refusal(/arm64 has no system call open/));
  });

  it('knows its actions, and which call may lead to one', () => {
    const args = [{ arg: 0, op: '==', value: 1 } as const];
    const rules = [{ calls: ['execve'], action: 'notify' as const, args }];
    const filter = new Filter({ default: 'allow', rules, foreign: { errno: 'ENOSYS' } });
    expect(new Set(filter.actions)).toEqual(new Set(['allow', 'notify', { errno: 'ENOSYS' }]));
    expect(filter.reaches('execve', 'notify')).toBe(true);
    expect(filter.reaches('execve', 'allow')).toBe(true);
    expect(filter.reaches('openat', 'notify')).toBe(false);
    const mapped = filter.map((action) => (action === 'notify' ? { errno: 'EPERM' } : action));
    expect(mapped.evaluate('execve', [1])).toEqual(eperm);
    expect(mapped.actions).not.toContain('notify');
  });

  const refused: [unknown, RegExp][] = [
    [{ default: 'allowed' }, /no action: .allowed., there are allow, log, kill-process/],
    [{ default: { errno: 0 } }, /from 1 to 4095/],
    [{ default: { errno: 'EWHAT' } }, /EWHAT/],
    [{ default: { errno: 4096 } }, /from 1 to 4095/],
    [{ default: { errno: 'EPERM', trace: 1 } }, /no action/],
    [{ default: { trace: 65536 } }, /from 0 to 65535/],
    [{ default: 'allow', defaults: 1 }, /a filter has no "defaults", there are default, rules/],
    [{ default: 'allow', architecture: 'riscv64' }, /no architecture: riscv64/],
    [{ default: 'allow', rules: [{ calls: ['opennat'], action: 'allow' }] }, /no system call is called "opennat"/],
    [{ default: 'allow', rules: [{ calls: [], action: 'allow' }] }, /not empty/],
    [{ default: 'allow', rules: [{ calls: ['read'], action: 'allow', arg: [] }] }, /a rule has no "arg"/],
    [{ default: 'allow', rules: [{ calls: ['read'], args: [] }] }, /no action/],
    ...(
      [
        [{ arg: 6, op: '==', value: 0 }, /from 0 to 5/],
        [{ arg: 0, op: '=', value: 0 }, /no operator/],
        [{ arg: 0, op: '==', value: 1.5 }, /not a 64-bit integer/],
        [{ arg: 0, op: '==', value: 2n ** 64n }, /not a 64-bit integer/],
        [{ arg: 0, op: '==', value: '1' }, /not a 64-bit integer/],
        [{ arg: 0, op: '==', value: 0, mask: 1 }, /masked takes a mask/],
        [{ arg: 0, op: 'masked', value: 0 }, /masked takes a mask/],
        [{ arg: 0, op: 'masked', value: 3, mask: 1 }, /outside of the mask/],
        [{ arg: 0, op: '==', value: 0, valueTwo: 1 }, /has no "valueTwo"/],
      ] as const
    ).map(([arg, message]): [unknown, RegExp] => [
      { default: 'allow', rules: [{ calls: ['read'], action: 'log', args: [arg] }] },
      message,
    ]),
  ];

  it('refuses whatever it does not know', () => {
    for (const [options, message] of refused)
      expect(() => new Filter(options as FilterOptions)).toThrow(refusal(message));
  });

  it('tells when a filter is more than the kernel takes', () => {
    const filter = (count: number) =>
      new Filter({
        default: 'allow',
        architecture: 'x64',
        rules: Array.from({ length: count }, (_, value) => ({
          calls: ['ioctl'],
          action: { errno: 'EPERM' },
          args: [{ arg: 1, op: '==' as const, value }],
        })),
      });
    expect(filter(1000).instructions).toBeGreaterThan(4000);
    expect(() => filter(1100)).toThrow(
      expect.objectContaining({
        code: 'ERR_SECCOMP',
        reason: 'too-large',
        message: expect.stringMatching(/takes 4096/),
      }),
    );
  });
});

describe('the compiler', () => {
  const errnos = Array.from({ length: 40 }, (_, i): Action => ({ errno: 1000 + i }));
  const actions: Action[] = ['allow', 'log', 'kill-process', 'kill-thread', 'trap', 'notify', { trace: 7 }, ...errnos];

  it.each(['x64', 'arm64'] as const)('agrees with the simulator on random filters for %s', (architecture) => {
    const names = [...syscallNumbers[architecture].keys()];
    const count = process.env.ISO_LONG ? 5000 : 150;
    for (let seed = 1; seed <= count; seed++) {
      const dice = new Dice(seed);
      const { options, words } = anyFilter(dice, names, actions);
      const filter = new Filter({ ...options, architecture });
      const code = disassemble(filter.bytes());
      expect(code.length).toBe(filter.instructions);
      for (let i = 0; i < 60; i++) {
        const number =
          dice.roll(8) === 0 ? dice.roll(600) : (syscallNumbers[architecture].get(dice.pick(names)) as number);
        const args = Array.from({ length: 6 }, () => dice.word(words));
        const returned = decode(interpret(code, number, AUDIT_ARCH[architecture], args));
        expect({ seed, number, args, action: returned }).toEqual({
          seed,
          number,
          args,
          action: filter.evaluate(number, args),
        });
      }
    }
  });

  it('jumps further than eight bits reach', () => {
    const rules = [...syscallNumbers.x64.keys()].map((call, i) => ({
      calls: [call],
      action: { errno: 1 + (i % 4000) },
      args: [{ arg: i % 6, op: '>' as const, value: 2n ** 40n + BigInt(i) }],
    }));
    const filter = new Filter({ default: 'allow', rules, architecture: 'x64' });
    expect(filter.instructions).toBeGreaterThan(1500);
    const code = disassemble(filter.bytes());
    for (const [call, number] of syscallNumbers.x64) {
      for (const word of [0n, 2n ** 40n, 2n ** 40n + 500n, 2n ** 63n]) {
        const args = Array(6).fill(word);
        expect(decode(interpret(code, number, AUDIT_ARCH.x64, args)), call).toEqual(filter.evaluate(call, args));
      }
    }
  });

  it('finds a number in few steps', () => {
    const calls = [...syscallNumbers.x64.keys()].filter((_, i) => i % 2 === 0);
    const filter = new Filter({ default: eperm, rules: [{ calls, action: 'allow' }], architecture: 'x64' });
    const code = disassemble(filter.bytes());
    let most = 0;
    for (const number of syscallNumbers.x64.values()) {
      let [pc, steps] = [0, 0];
      for (; code[pc]?.code !== 6; steps++) {
        const { code: op, jt, jf, k } = code[pc] as (typeof code)[number];
        const word = pc < 2 ? AUDIT_ARCH.x64 : number;
        pc += 1 + (op === 0x20 ? 0 : op === 5 ? k : (op === 0x15 ? word === k : word >= k) ? jt : jf);
      }
      most = Math.max(most, steps);
    }
    expect(most).toBeLessThan(18);
  });

  it('kills calls of foreign ABIs, whatever is allowed', () => {
    const code = disassemble(new Filter({ default: 'allow', architecture: 'x64' }).bytes());
    const I386 = 0x40000003;
    expect(decode(interpret(code, 1, I386, []))).toBe('kill-process');
    expect(decode(interpret(code, 0x40000001, AUDIT_ARCH.x64, []))).toBe('kill-process');
    expect(decode(interpret(code, 1, AUDIT_ARCH.arm64, []))).toBe('kill-process');
    expect(decode(interpret(code, 1, AUDIT_ARCH.x64, []))).toBe('allow');
  });

  it('leaves calls that a tracer holds back to the tracer', () => {
    const filter = new Filter({ default: 'allow', unknown: { errno: 'ENOSYS' }, architecture: 'x64' });
    const NO_CALL = 0xffffffff;
    expect(decode(interpret(disassemble(filter.bytes()), NO_CALL, AUDIT_ARCH.x64, []))).toEqual({ errno: 'ENOSYS' });
    expect(filter.evaluate(NO_CALL)).toEqual({ errno: 'ENOSYS' });
  });

  it('encodes each action as the kernel does', () => {
    for (const action of actions) expect(encode(decode(encode(action)))).toBe(encode(action));
    expect(encode({ errno: 'EPERM' })).toBe(0x50001);
  });
});

const gcc = spawnSync('gcc', ['--version']).status === 0 && existsSync('/usr/include/linux/seccomp.h');

it.skipIf(!gcc)('numbers and layouts are those of the headers [needs gcc and linux-libc-dev]', async () => {
  const raw = await import('./raw/seccomp.js');
  const facts: [string, number][] = [
    ...Object.entries(raw.RET).map(([name, value]): [string, number] => [`SECCOMP_RET_${name}`, value]),
    ...Object.entries(raw.FLAG).map(([name, value]): [string, number] => [`SECCOMP_FILTER_FLAG_${name}`, value]),
    ...Object.entries(raw.NOTIFY).map(([name, value]): [string, number] => [`SECCOMP_IOCTL_NOTIF_${name}`, value]),
    ['SECCOMP_SET_MODE_FILTER', raw.SECCOMP.SET_MODE_FILTER],
    ['AUDIT_ARCH_X86_64', AUDIT_ARCH.x64],
    ['AUDIT_ARCH_AARCH64', AUDIT_ARCH.arm64],
    ['BPF_MAXINSNS', raw.MAX_INSTRUCTIONS],
    ['(BPF_LD|BPF_W|BPF_ABS)', raw.BPF.LD],
    ['(BPF_ALU|BPF_AND|BPF_K)', raw.BPF.AND],
    ['(BPF_RET|BPF_K)', raw.BPF.RET],
    ['(BPF_JMP|BPF_JA)', raw.BPF.JA],
    ...(['JEQ', 'JGT', 'JGE'] as const).map((op): [string, number] => [`(BPF_JMP|BPF_${op}|BPF_K)`, raw.BPF[op]]),
    ['SECCOMP_USER_NOTIF_FLAG_CONTINUE', raw.RESP.CONTINUE],
    ['SECCOMP_ADDFD_FLAG_SETFD', raw.ADDFD.SETFD],
    ['SECCOMP_ADDFD_FLAG_SEND', raw.ADDFD.SEND],
    ...structure('struct seccomp_data', { nr: raw.DATA.nr, arch: raw.DATA.arch, args: raw.DATA.args }),
    ...structure('struct seccomp_notif', { id: 0, pid: 8, 'data.nr': 16, 'data.arch': 20, 'data.args': 32 }),
    ['sizeof(struct seccomp_notif)', raw.NOTIF.size],
    ...structure('struct seccomp_notif_resp', {
      id: 0,
      val: raw.RESP.val,
      error: raw.RESP.error,
      flags: raw.RESP.flags,
    }),
    ['sizeof(struct seccomp_notif_resp)', raw.RESP.size],
    ...structure('struct seccomp_notif_addfd', {
      flags: raw.ADDFD.flags,
      srcfd: raw.ADDFD.srcfd,
      newfd: raw.ADDFD.newfd,
    }),
    ['sizeof(struct seccomp_notif_addfd)', raw.ADDFD.size],
  ];
  const text = [
    '#include <linux/seccomp.h>\n#include <linux/audit.h>\n#include <linux/filter.h>\n#include <sys/ioctl.h>',
    ...facts.map(([name, value]) => `_Static_assert((unsigned)(${name}) == ${value}u, "${name}");`),
    '',
  ].join('\n');
  const { stderr } = spawnSync('gcc', ['-fsyntax-only', '-x', 'c', '-'], { input: text, encoding: 'utf8' });
  expect(stderr).toBe('');
});

function structure(type: string, fields: Record<string, number>): [string, number][] {
  return Object.entries(fields).map(([name, offset]) => [`__builtin_offsetof(${type}, ${name})`, offset]);
}

const resolver = spawnSync('scmp_sys_resolver', ['-h']).error === undefined;

it.skipIf(!resolver)('the tables are those of libseccomp [needs scmp_sys_resolver]', { timeout: 60_000 }, () => {
  for (const [architecture, theirs] of [
    ['x64', 'x86_64'],
    ['arm64', 'aarch64'],
  ] satisfies [Architecture, string][]) {
    const step = process.env.ISO_LONG ? 1 : 12;
    const names = [...syscallNumbers[architecture]].filter((_, i) => i % step === 0);
    const script = `for name do scmp_sys_resolver -a ${theirs} "$name"; done`;
    const { stdout } = spawnSync('sh', ['-c', script, 'sh', ...names.map(([name]) => name)], { encoding: 'utf8' });
    const judged = stdout.trim().split('\n').map(Number);
    // -1: newer than that libseccomp.
    const other = names.filter(([, number], i) => judged[i] !== -1 && judged[i] !== number);
    expect(other, architecture).toEqual([]);
    expect(judged.filter((number) => number >= 0).length).toBeGreaterThan(250 / step);
  }
});
