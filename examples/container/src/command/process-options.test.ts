import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { sharedNamespaces } from '../sharing.js';
import { environmentOf, parseUlimit, processOptionsOf, sharingOf } from './process-options.js';

const usageError = expect.objectContaining({ name: 'UsageError' });
const folder = mkdtempSync(join(tmpdir(), 'iso-options-'));
afterAll(() => rmSync(folder, { recursive: true }));

it('parses --ulimit', () => {
  expect(parseUlimit('nofile=10')).toEqual({ nofile: { soft: 10, hard: 10 } });
  expect(parseUlimit('core=0:-1')).toEqual({ core: { soft: 0, hard: 'unlimited' } });
  expect(parseUlimit('cpu=-1')).toEqual({ cpu: { soft: 'unlimited', hard: 'unlimited' } });
  for (const text of [
    '',
    'nofile',
    'nofile=',
    'nofile=x',
    'nofile=2:1',
    'nofile=-1:1',
    'nofile=1:2:3',
    'as=1',
    'moon=1',
    'nofile=-2',
    'nofile=1e3',
  ])
    expect(() => parseUlimit(text), text).toThrow(usageError);
});

it('reads --env-file as docker does; the command line counts more', () => {
  const file = join(folder, 'env');
  writeFileSync(file, '# no\n\nA=1\r\n  B= "x y" # kept\nISO_TEST_ABSENT\nC==\n');
  expect(environmentOf({ envFile: [file], env: ['A=2'] })).toEqual([
    'A=1',
    'B= "x y" # kept',
    'ISO_TEST_ABSENT',
    'C==',
    'A=2',
  ]);
  for (const text of ['=x', 'a b=c', 'a\tb', '\xff=1']) {
    writeFileSync(file, Buffer.from(text, 'latin1'));
    expect(() => environmentOf({ envFile: [file] }), text).toThrow(usageError);
  }
  expect(() => environmentOf({ envFile: [join(folder, 'no')] })).toThrow(usageError);
});

it('says nothing of what was not asked for', () => {
  expect(processOptionsOf({})).toEqual({ env: [] });
  expect(processOptionsOf({ sysctl: ['net.a=1', 'net.b=x=y'], ulimit: ['cpu=1', 'core=2'] })).toEqual({
    env: [],
    sysctls: { 'net.a': '1', 'net.b': 'x=y' },
    ulimits: { cpu: { soft: 1, hard: 1 }, core: { soft: 2, hard: 2 } },
  });
  for (const text of ['net.a', 'net.a=', '=1', ''])
    expect(() => processOptionsOf({ sysctl: [text] }), text).toThrow(usageError);
});

it('knows whose namespaces can be shared', () => {
  using shared = sharingOf({ pid: 'host', ipc: 'none' })('/no/such');
  expect(shared.options).toEqual({ pid: 'host', ipc: 'none' });
  for (const [name, text] of [
    ['pid', 'private'],
    ['pid', ''],
    ['pid', 'container:'],
    ['ipc', 'container'],
    ['ipc', 'Host'],
  ] as const)
    expect(() => sharingOf({ [name]: text }), `${name} ${text}`).toThrow(usageError);
});

it('refuses namespaces that go with nothing', () => {
  const about = { ownUser: false, named: false, init: false };
  expect(sharedNamespaces({}, 'box', about)).toEqual({
    pid: 'new',
    ipc: 'new',
    uts: { hostname: 'box' },
    cgroup: 'new',
  });
  expect(sharedNamespaces({ pid: 'host', ipc: 'host', uts: 'host', cgroupns: 'host' }, 'box', about)).toEqual({
    pid: 'host',
    ipc: 'host',
    uts: 'host',
    cgroup: 'host',
  });
  for (const [options, more] of [
    [{ pid: 'host' }, { ownUser: true }],
    [{ ipc: 'host' }, { ownUser: true }],
    [{ cgroupns: 'host' }, { ownUser: true }],
    [{ pid: 'host' }, { init: true }],
    [{ uts: 'host' }, { named: true }],
    [{ ipc: 'host', shmSize: 1 }, {}],
    [{ ipc: 'none', shmSize: 1 }, {}],
    [{ shmSize: 0 }, {}],
    [{ pid: 'new' }, {}],
    [{ ipc: '' }, {}],
    [{ uts: 'moon' }, {}],
  ] as const)
    expect(() => sharedNamespaces(options as object, 'box', { ...about, ...more }), JSON.stringify(options)).toThrow(
      usageError,
    );
});
