// Every driver against the conformance suite, on file systems of loop images; and the kernel's own tools as judges.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statfsSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MountTree } from '@iso/mounts';
import { Fd, O } from '@iso/sys';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loopDevice } from '../device/backing.js';
import { copyTree } from '../layer/copy.js';
import { asPlainUser, conform, PRIVILEGED, passed } from '../testing/conformance.js';
import { judge, makeTree, warmUp } from '../testing/judge.js';
import { conformance } from '../testsuite/index.js';
import { openDriver, probeDrivers } from './probe.js';

const root = process.getuid?.() === 0;
const needs = root ? '' : ' [needs root]';
const has = (tool: string) => spawnSync('sh', ['-c', `command -v ${tool}`]).status === 0;
let folder = '';
const at = (name: string) => join(folder, name);

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'iso-driver-'));
  await warmUp();
}, 60_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A file system of its own on a loop device, held by its mount's descriptor alone. */
async function withImage<T>(type: 'btrfs' | 'xfs' | 'ext4', use: (path: string) => T | Promise<T>): Promise<T> {
  const image = at(`${type}-${Math.random()}.img`);
  writeFileSync(image, '');
  truncateSync(image, 512 << 20);
  execFileSync(`mkfs.${type}`, ['-q', image], { stdio: 'ignore' });
  try {
    using mount = mountImage(type, image);
    return await use(`/proc/${process.pid}/fd/${mount.fd.number}`);
  } finally {
    rmSync(image);
  }
}

/** By the package's own loop devices: losetup(8) finds none where nobody makes their nodes, as in a virtual machine. */
function mountImage(type: string, path: string): MountTree {
  using image = Fd.open(path, { flags: O.RDWR });
  const device = loopDevice(image);
  try {
    return MountTree.create(type, { source: device.path });
  } finally {
    device.fd.close();
  }
}

const places = [
  ['overlay2', 'the machine'],
  ['vfs', 'the machine'],
  ['overlay2', 'btrfs'],
  ['vfs', 'btrfs'],
  ['btrfs', 'btrfs'],
  ['overlay2', 'xfs'],
  ['vfs', 'xfs'],
] as const;

for (const [name, place] of places) {
  const tool = place === 'the machine' || has(`mkfs.${place}`);
  const skip = !root || !tool;
  // What a case is about does not depend on the file system below, but for the first ones.
  const cases =
    place === 'the machine' || name === place || process.env.ISO_LONG ? conformance : conformance.slice(0, 4);
  describe(`${name} on ${place}`, () => {
    for (const { name: title, run } of cases) {
      it.skipIf(skip)(`${title}${tool ? needs : ` [needs mkfs.${place}]`}`, { timeout: 60_000 }, async () => {
        const inside = async (path: string) => {
          const layers = mkdtempSync(join(path, 'layers-'));
          try {
            using driver = openDriver(name, layers);
            await run(driver);
            expect(readdirSync(layers)).toEqual([]);
          } finally {
            if (place === 'the machine') rmSync(layers, { recursive: true, force: true });
          }
        };
        await (place === 'the machine' ? inside(folder) : withImage(place, inside));
      });
    }
  });
}

for (const name of ['overlay2', 'vfs'] as const) {
  describe(`${name} for a plain user`, () => {
    it.skipIf(!root)(`passes as one in a user namespace${needs}`, { timeout: 60_000 }, () => {
      const before = asPlainUser(at(`user-${name}`));
      expect(conform(name, at(`user-${name}`), { omit: PRIVILEGED, before })).toEqual(passed(PRIVILEGED));
    });
  });
}

describe('copies', () => {
  for (const place of ['the machine', 'xfs', 'btrfs'] as const) {
    const tool = place === 'the machine' || has(`mkfs.${place}`);
    it.skipIf(!root || !tool)(`are whole on ${place}${tool ? needs : ` [needs mkfs.${place}]`}`, async () => {
      const inside = (path: string) => {
        makeTree(join(path, 'tree'), 61, 250);
        execFileSync('sh', [
          '-c',
          'truncate -s 20M "$1"; printf x | dd of="$1" bs=1 seek=9000000 conv=notrunc status=none',
          'sh',
          join(path, 'tree/holes'),
        ]);
        writeFileSync(join(path, 'tree/large'), Buffer.alloc(8 << 20, 'data'));
        execFileSync('sync', ['-f', path]);
        const used = () => {
          const { blocks, bfree, bsize } = statfsSync(path);
          return (blocks - bfree) * bsize;
        };
        const before = used();
        mkdirSync(join(path, 'copy'));
        copyTree(join(path, 'tree'), join(path, 'copy'));
        expect(judge(join(path, 'copy'))).toEqual(judge(join(path, 'tree')));
        expect(statSync(join(path, 'copy/holes')).blocks * 512).toBeLessThan(1 << 20);
        execFileSync('sync', ['-f', path]);
        // Shared blocks take no room.
        if (place !== 'the machine') expect(used() - before).toBeLessThan(6 << 20);
      };
      mkdirSync(at('here'), { recursive: true });
      await (place === 'the machine' ? inside(at('here')) : withImage(place, inside));
    });
  }
});

describe('probeDrivers', () => {
  it.skipIf(!root)(`says what works, and what is missing where it does not${needs}`, async () => {
    const on = (path: string) => Object.fromEntries(probeDrivers(path).map(({ driver, code }) => [driver, code]));
    expect(on(folder)).toMatchObject({ overlay2: 'ok', btrfs: 'bad-backing-fs', vfs: 'ok' });
    // Where the kernel or a program is missing, the way to it is said.
    for (const { code, reason } of probeDrivers(folder)) {
      if (code === 'no-kernel') expect(reason).toMatch(/modprobe \w+/);
      if (code === 'no-tool') expect(reason).toMatch(/Debian has it in the package/);
      expect(['failed', 'no-permission']).not.toContain(code);
    }
    {
      using driver = openDriver('auto', folder);
      expect(driver.name).toBe('overlay2');
    }
    expect(readdirSync(folder).filter((name) => name.startsWith('.iso-probe'))).toEqual([]);
    if (has('mkfs.btrfs')) {
      expect(await withImage('btrfs', on)).toMatchObject({ overlay2: 'ok', btrfs: 'ok', vfs: 'ok' });
    }
  });
});
