// The device mapper's driver against the conformance suite where the kernel has one, and what it says where not.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { UnsupportedError } from '@iso/sys';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { conform, PATIENCE, passed } from '../testing/conformance.js';
import { devicemapper } from './devicemapper.js';

const root = process.getuid?.() === 0;
const MIB = 2 ** 20;
const small = { poolSize: 256 * MIB, metadataSize: 8 * MIB, layerSize: 48 * MIB };
let folder = '';
const at = (name: string) => join(folder, name);
/** Why it cannot work here, in the driver's words. */
const missing = root ? whyNot() : 'root';
const needs = missing === undefined ? '' : ` [needs ${missing === 'root' ? 'root' : 'a device mapper'}]`;

function whyNot(): string | undefined {
  const place = mkdtempSync(join(tmpdir(), 'iso-dm-'));
  try {
    devicemapper(place, small)[Symbol.dispose]();
    return undefined;
  } catch (error) {
    if (error instanceof UnsupportedError) return error.message;
    throw error;
  } finally {
    rmSync(place, { recursive: true });
  }
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-dm-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const mapped = () => execFileSync('dmsetup', ['ls'], { encoding: 'utf8' }).trim();

describe('devicemapper', () => {
  it.skipIf(missing !== undefined)(`passes${needs}`, { timeout: PATIENCE }, () => {
    // Thirteen mounts on an emulated processor.
    const omit = process.env.ISO_LONG ? '' : 'layers on layers';
    expect(conform('devicemapper', at('layers'), { driver: small, omit })).toEqual(passed(omit));
    expect(mapped()).toBe('No devices found');
  });

  it.skipIf(missing !== undefined)(`shares a pool between processes, and leaves none behind${needs}`, () => {
    const place = mkdtempSync(at('shared-'));
    using one = devicemapper(place, small);
    {
      using two = devicemapper(place, small);
      one.create('a', []);
      two.create('b', ['a']);
      writeFileSync(join(two.directory('b'), 'f'), 'of two');
      // What is under way in a mount is in its snapshots.
      one.create('c', ['b']);
      expect(readFileSync(join(one.directory('c'), 'f'), 'utf8')).toBe('of two');
      expect(() => one.remove('b')).toThrow(/EBUSY/);
      two.release?.('b');
      for (const id of ['c', 'b', 'a']) one.remove(id);
    }
    expect(mapped().split('\n')).toHaveLength(1);
    one[Symbol.dispose]();
    expect(mapped()).toBe('No devices found');
    expect(readdirSync(place).sort()).toEqual(['.base', '.data', '.lock', '.metadata']);
  });

  it.skipIf(missing !== undefined)(
    `makes a pool again and again in two processes at once${needs}`,
    async () => {
      const place = mkdtempSync(at('again-'));
      const script = `import { devicemapper } from '@iso/unionfs';
      for (let i = 0; i < 6; i++) {
        const driver = devicemapper(${JSON.stringify(place)}, ${JSON.stringify(small)});
        const id = process.argv[1] + i;
        driver.create(id, []);
        driver.directory(id);
        driver.remove(id);
        driver[Symbol.dispose]();
      }`;
      const work = ['a', 'b'].map(async (name) => {
        const node = ['--input-type=module', '-e', script, name];
        const child = spawn(process.execPath, node, { cwd: import.meta.dirname, stdio: ['ignore', 'ignore', 'pipe'] });
        let said = '';
        for await (const chunk of child.stderr) said += chunk;
        return said;
      });
      expect(await Promise.all(work)).toEqual(['', '']);
      for (let i = 0; i < 100 && mapped() !== 'No devices found'; i++) await sleep(20);
      expect(mapped()).toBe('No devices found');
    },
    PATIENCE,
  );

  it.skipIf(missing !== undefined)(`leaves nothing to a killed process${needs}`, () => {
    const script = `import { devicemapper } from '@iso/unionfs';
      const driver = devicemapper(${JSON.stringify(mkdtempSync(at('killed-')))}, ${JSON.stringify(small)});
      driver.create('a', []); driver.directory('a'); process.kill(process.pid, 'SIGKILL');`;
    const { signal } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { cwd: import.meta.dirname });
    expect(signal).toBe('SIGKILL');
    for (let i = 0; i < 100 && mapped() !== 'No devices found'; i++)
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
    expect(mapped()).toBe('No devices found');
  });

  it.skipIf(missing !== undefined)(`says that a layer is full${needs}`, () => {
    using driver = devicemapper(mkdtempSync(at('full-')), small);
    driver.create('a', []);
    expect(() => writeFileSync(join(driver.directory('a'), 'f'), Buffer.alloc(64 * MIB))).toThrow(/ENOSPC/);
    driver.remove('a');
  });

  it.skipIf(!root || missing === undefined)('says what the kernel lacks [needs root, no device mapper]', () => {
    expect(missing).toMatch(/^device mapper is not supported here: .*CONFIG_BLK_DEV_DM.*modprobe dm-mod$/);
  });
});
