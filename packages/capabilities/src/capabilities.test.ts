import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { LaunchProgram } from '@iso/sys';
import { describe, expect, it } from 'vitest';
import {
  capabilities,
  capabilityName,
  capabilityNames,
  capabilityNumber,
  decodeFileCapabilities,
  encodeFileCapabilities,
  formatCapabilities,
  formatFileCapabilities,
  lastCapability,
  maskOf,
  namesOf,
  parseCapabilities,
} from './index.js';
import * as raw from './raw/capability.js';

const refusal = (message: RegExp) =>
  expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE', message: expect.stringMatching(message) });

describe('names', () => {
  it('are read in every spelling and written in one', () => {
    expect(['CHOWN', 'CAP_CHOWN', 'cap_chown', 'Chown', '0', 'CAP_0'].map(capabilityNumber)).toEqual(Array(6).fill(0));
    expect(capabilityNumber('CAP_63')).toBe(63);
    expect([0, 40, 41, 63].map(capabilityName)).toEqual(['CHOWN', 'CHECKPOINT_RESTORE', '41', '63']);
    expect(maskOf('ALL')).toBe((1n << BigInt(lastCapability() + 1)) - 1n);
    expect(maskOf(['all'])).toBe(maskOf('ALL'));
    expect(namesOf(maskOf(['NET_RAW', 'chown', 'CAP_41']))).toEqual(['CHOWN', 'NET_RAW', '41']);
    expect(formatCapabilities(1n | (1n << 41n))).toBe('cap_chown,41');
    for (const text of ['chown, cap_kill', 'CAP_KILL CHOWN', '0000000000000021'])
      expect(parseCapabilities(text)).toBe(0x21n);
    expect(parseCapabilities('')).toBe(0n);
    for (const mask of [0n, 1n, (1n << 64n) - 1n, 0x1ffffffffffn]) {
      expect(maskOf(namesOf(mask))).toBe(mask);
      expect(parseCapabilities(formatCapabilities(mask))).toBe(mask);
    }
  });

  it('refuses others', () => {
    for (const name of ['CHWON', '', 'CAP_', '64', 'cap_64', '-1', '1.5', 'CAP_CAP_CHOWN', 'constructor', undefined])
      expect(() => capabilityNumber(name as string), String(name)).toThrow(refusal(/no capability is called/));
    expect(() => maskOf('CHOWN' as never)).toThrow(refusal(/not 'ALL'/));
    expect(() => namesOf(-1n)).toThrow(refusal(/no mask/));
    expect(() => namesOf(1n << 64n)).toThrow(refusal(/no mask/));
    for (const number of [-1, 64, 1.5, Number.NaN])
      expect(() => capabilityName(number)).toThrow(refusal(/not the number/));
  });
});

describe('capabilities()', () => {
  it('refuses what would be left out silently, and what the kernel would refuse', () => {
    for (const [options, message] of [
      [null, /takes an object with options, not null/],
      [undefined, /not undefined/],
      [['CHOWN'], /not CHOWN/],
      [{ bound: [] }, /no option "bound", there are bounding/],
      [{ bounding: 'CHOWN' }, /not 'ALL'/],
      [{ bounding: ['CHWON'] }, /no capability is called "CHWON"/],
      [{ permitted: ['CHOWN'], effective: ['CHOWN', 'KILL'] }, /effective must be permitted too: KILL/],
      [{ permitted: ['CHOWN'], ambient: ['KILL'] }, /ambient must be permitted too: KILL/],
      [{ inheritable: ['CHOWN'], ambient: ['KILL'] }, /ambient must be inheritable too: KILL/],
      [{ bounding: ['CHOWN'], ambient: ['KILL'] }, /inheritable must be bounding too: KILL/],
      [{ securebits: ['noroots'] }, /no securebit: "noroots", there are noroot/],
      [{ securebits: 'noroot' }, /must be an array/],
      [{ noNewPrivileges: 1 }, /is true or false/],
    ] as const)
      expect(() => capabilities(options as never), JSON.stringify(options)).toThrow(refusal(message));
    expect(() => capabilities({}).confine(new LaunchProgram('errand'))).toThrow(refusal(/not for an errand/));
  });

  it.skipIf(process.platform !== 'linux')('explains what it will do', () => {
    const program = new LaunchProgram();
    void capabilities({
      bounding: ['NET_RAW', 'KILL'],
      ambient: ['KILL'],
      securebits: ['noroot'],
      noNewPrivileges: true,
    }).confine(program);
    const text = program.explain();
    program.finish('failed');
    expect(text.match(/PR_CAPBSET_DROP/g)).toHaveLength(lastCapability() - 1);
    expect(text).not.toMatch(/DROP, CAP_NET_RAW/);
    const order = [
      'DROP, CAP_CHOWN',
      'KEEPCAPS',
      'SETPCAP]',
      'CLEAR_ALL',
      'RAISE, CAP_KILL',
      'SECUREBITS, 1',
      'permitted: [KILL]',
      'NO_NEW',
    ];
    expect(order.map((what) => text.indexOf(what))).toEqual(
      order.map((what) => text.indexOf(what)).sort((a, b) => a - b),
    );
    expect(order.every((what) => text.includes(what))).toBe(true);
  });
});

describe('file capabilities', () => {
  it('are written as the kernel reads them, and read in every revision', () => {
    const some = { permitted: maskOf(['NET_RAW', 'BPF']), inheritable: maskOf(['CHOWN']), effective: true };
    expect(encodeFileCapabilities(some).toString('hex')).toBe(
      '0100000200200000010000008000000000000000'.padEnd(40, '0'),
    );
    expect(decodeFileCapabilities(encodeFileCapabilities(some))).toEqual(some);
    const rooted = { ...some, effective: false, rootid: 100_000 };
    expect(encodeFileCapabilities(rooted)).toHaveLength(24);
    expect(decodeFileCapabilities(encodeFileCapabilities(rooted))).toEqual(rooted);
    const first = Buffer.from('010000010020000001000000', 'hex');
    expect(decodeFileCapabilities(first)).toEqual({ permitted: 0x2000n, inheritable: 1n, effective: true });
  });

  it('refuses what the kernel would', () => {
    for (const hex of ['', '01', '0100000200200000', '010000040020000001000000', '01000003'.padEnd(40, '0')])
      expect(() => decodeFileCapabilities(Buffer.from(hex, 'hex')), hex).toThrow(
        expect.objectContaining({ code: 'EINVAL' }),
      );
    for (const rootid of [-1, 0.5, 2 ** 32]) {
      const of = { permitted: 0n, inheritable: 0n, effective: false, rootid };
      expect(() => encodeFileCapabilities(of)).toThrow(refusal(/rootid/));
    }
  });

  it('are formatted by their flags', () => {
    const format = (permitted: bigint, inheritable: bigint, effective: boolean) =>
      formatFileCapabilities({ permitted, inheritable, effective });
    expect(format(1n, 0n, true)).toBe('cap_chown=ep');
    expect(format(1n, 1n, false)).toBe('cap_chown=ip');
    expect(format(1n, 0x20n, true)).toBe('cap_kill=ei cap_chown=ep');
    expect(format(0n, 0n, false)).toBe('');
  });
});

const headers = spawnSync('gcc', ['-E', '-'], {
  input: '#include <linux/capability.h>\n#include <linux/securebits.h>',
});

it.skipIf(headers.status !== 0)('numbers are those of the headers [needs gcc and linux-libc-dev]', () => {
  const text = readFileSync('/usr/include/linux/capability.h', 'utf8');
  const theirs = new Map(
    [...text.matchAll(/^#define CAP_(\w+)\s+(\d+)$/gm)].map(([, name, value]) => [name, Number(value)]),
  );
  expect(capabilityNames.map((name) => [name, theirs.get(name)])).toEqual(capabilityNames.map((name, i) => [name, i]));
  expect(theirs.size).toBeLessThanOrEqual(capabilityNames.length);
  const facts: [string, number][] = [
    ...Object.entries(raw.SECUREBITS).map(([name, bit]): [string, number] => [
      `SECURE_${name.toUpperCase().replaceAll('-', '_')}`,
      bit,
    ]),
    ...Object.entries(raw.AMBIENT).map(([name, value]): [string, number] => [`PR_CAP_AMBIENT_${name}`, value]),
    ...Object.entries(raw.PRCTL).map(([name, value]): [string, number] => [`PR_${name}`, value]),
    ['_LINUX_CAPABILITY_VERSION_3', raw.VERSION_3],
    ['sizeof(struct __user_cap_data_struct)', raw.DATA.size],
    ['__builtin_offsetof(struct __user_cap_data_struct, permitted)', raw.DATA.permitted],
    ['__builtin_offsetof(struct __user_cap_data_struct, inheritable)', raw.DATA.inheritable],
    ['VFS_CAP_REVISION_1', raw.XATTR.REVISION_1],
    ['VFS_CAP_REVISION_2', raw.XATTR.REVISION_2],
    ['VFS_CAP_REVISION_3', raw.XATTR.REVISION_3],
    ['XATTR_CAPS_SZ_1', raw.XATTR.sizes[raw.XATTR.REVISION_1] as number],
    ['XATTR_CAPS_SZ_2', raw.XATTR.sizes[raw.XATTR.REVISION_2] as number],
    ['XATTR_CAPS_SZ_3', raw.XATTR.sizes[raw.XATTR.REVISION_3] as number],
  ];
  const code = [
    '#include <linux/capability.h>\n#include <linux/securebits.h>\n#include <linux/prctl.h>',
    ...facts.map(([name, value]) => `_Static_assert((${name}) == ${value}, "${name}");`),
    '',
  ].join('\n');
  const compiled = spawnSync('gcc', ['-fsyntax-only', '-x', 'c', '-'], { input: code, encoding: 'utf8' });
  expect(compiled.stderr).toBe('');
});
