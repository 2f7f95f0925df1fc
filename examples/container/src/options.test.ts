import { cpus } from 'node:os';
import { describe, expect, it } from 'vitest';
import {
  environment,
  parseBytes,
  parseCgroupParent,
  parseCpus,
  parsePids,
  parseTmpfs,
  parseVolume,
  UsageError,
} from './options.js';

const refused = (action: () => unknown) => expect(action).toThrow(UsageError);

describe('options', () => {
  it('of volumes', () => {
    expect(parseVolume('/a:/b')).toEqual({ source: '/a', target: '/b', readonly: false });
    expect(parseVolume('/a:/b:ro,rslave')).toEqual({
      source: '/a',
      target: '/b',
      readonly: true,
      propagation: 'slave',
    });
    for (const text of ['', '/a', 'a:/b', '/a:b', '/a:/b:', '/a:/b:rshared', '/a:/b:ro:rw', '/a:/b:z'])
      refused(() => parseVolume(text));
  });

  it('of memory file systems, which are docker’s', () => {
    const sealed = { target: '/x', nosuid: true, nodev: true, noexec: true };
    expect(parseTmpfs('/x')).toEqual(sealed);
    expect(parseTmpfs('/x:ro,size=64k,mode=700,uid=1,gid=2,exec')).toEqual({
      ...sealed,
      noexec: false,
      readonly: true,
      size: 65536,
      mode: 0o700,
      uid: 1,
      gid: 2,
    });
    for (const options of [
      'moon',
      'size',
      'size=',
      'size=1x',
      'mode=9',
      'mode=77777',
      'uid=-1',
      'uid=4294967295',
      'ro=1',
    ])
      refused(() => parseTmpfs(`/x:${options}`));
    refused(() => parseTmpfs('x'));
  });

  it('of cgroups', () => {
    expect([parseCgroupParent('/a/b/'), parseCgroupParent('a.slice')]).toEqual(['a/b', 'a.slice']);
    for (const path of ['', '/', 'a/../b', '..', './a', 'a\nb', 'a\0b', 'x'.repeat(256)])
      refused(() => parseCgroupParent(path));
  });

  it('that are numbers', () => {
    expect([parseBytes('64m'), parseBytes('1G'), parseBytes('5'), parseBytes('2kb')]).toEqual([
      67108864,
      2 ** 30,
      5,
      2048,
    ]);
    for (const text of ['', '12q', '-1', '1.5m', '999999999999999t']) refused(() => parseBytes(text));
    expect(parseCpus('0.5')).toBe(0.5);
    for (const text of ['', '0', '-1', '1e3', '0.001', String(cpus().length + 1)]) refused(() => parseCpus(text));
    expect([parsePids('1'), parsePids('-1')]).toEqual([1, -1]);
    for (const text of ['', '0', '-2', '1.5', '9999999999']) refused(() => parsePids(text));
  });

  it('of the environment: docker’s own, then what was asked for, and nothing else', () => {
    const defaults = { hostname: 'box', home: '/root', tty: false };
    process.env.ISO_TEST_GIVEN = 'given';
    expect(environment(['A=b=c', 'ISO_TEST_GIVEN', 'ISO_TEST_MISSING', 'HOME=/h'], defaults)).toEqual({
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      HOSTNAME: 'box',
      HOME: '/h',
      A: 'b=c',
      ISO_TEST_GIVEN: 'given',
    });
    delete process.env.ISO_TEST_GIVEN;
    expect(environment([], { ...defaults, tty: true }).TERM).toBe('xterm');
    refused(() => environment(['=x'], defaults));
  });
});
