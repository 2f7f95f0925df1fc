import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { RuntimeError } from '../error.js';
import { readBundle, readProcess } from './read.js';

const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const process_ = (more: object) => ({ args: ['true'], cwd: '/', ...more });
const read = (process_: object, linux: object = {}) => {
  const config = {
    ociVersion: '1.2.0',
    root: { path: 'rootfs' },
    process: process_,
    linux: { namespaces: [{ type: 'mount' }], ...linux },
  };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  return readBundle(folder);
};
const args = (more: object) => ({
  seccomp: {
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [
      { names: ['read'], action: 'SCMP_ACT_ERRNO', args: [{ index: 0, op: 'SCMP_CMP_EQ', value: 1, ...more }] },
    ],
  },
});

describe('config.json', () => {
  it.each<[string, object, object, RegExp]>([
    [
      'ids that are mapped without a user namespace',
      process_({}),
      { uidMappings: [{ containerID: 0, hostID: 1000, size: 1 }] },
      /ids are mapped, and linux\.namespaces has none of type user/,
    ],
    [
      'a limit that is given twice',
      process_({ rlimits: ['CORE', 'NOFILE', 'CORE'].map((name) => ({ type: `RLIMIT_${name}`, soft: 1, hard: 1 })) }),
      {},
      /process\.rlimits has RLIMIT_CORE twice/,
    ],
    [
      'a value of a filter that JSON has not exactly',
      process_({}),
      args({ value: 2 ** 53 }),
      /linux\.seccomp: 9007199254740992 is above/,
    ],
    ['the second one', process_({}), args({ op: 'SCMP_CMP_MASKED_EQ', valueTwo: 2 ** 63 }), /is above/],
  ])('is refused for %s', async (_, described, linux, message) => {
    const error = await read(described, linux).catch((why) => why);
    expect(error).toBeInstanceOf(RuntimeError);
    expect(error.message).toMatch(message);
  });

  it('is refused where it is nested too deeply', async () => {
    const path = join(folder, 'config.json');
    for (const deep of ['['.repeat(300_000), `{"annotations":${'{"a":'.repeat(100_000)}1${'}'.repeat(100_001)}`]) {
      writeFileSync(path, deep);
      const error = await readBundle(folder).catch((why) => why);
      expect(error).toBeInstanceOf(RuntimeError);
      expect(error.message).toMatch(/config\.json (is nested too deeply|is no JSON)/);
    }
  });

  it('has values of a filter up to 2^53', async () => {
    await expect(read(process_({}), args({ value: 2 ** 53 - 1 }))).resolves.toBeDefined();
  });

  it('of a process alone is held to the same', async () => {
    const path = join(folder, 'process.json');
    writeFileSync(path, JSON.stringify(process_({ env: ['A'] })));
    await expect(readProcess(path)).rejects.toThrow(/process\.env is no list/);
  });
});
