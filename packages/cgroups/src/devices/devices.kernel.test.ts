import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Cgroup, type DeviceRule, hierarchyOf, type Layout } from '../index.js';
import { ended, file, layouts, root, run, testParent, unified } from '../kit.js';

const parent = testParent('devices');

const allowed: readonly DeviceRule[] = [
  { allow: true, type: 'c', major: 1, minor: 3 },
  { allow: true, type: 'c', major: 1, minor: 5, access: 'r' },
  { allow: true, type: 'c', major: 1, minor: 9, access: 'rm' },
];

const places = [...layouts, ...(unified && layouts[0]?.[0] !== 'unified' ? [['v2 alone', unified] as const] : [])];

for (const [kind, layout] of places as [string, Layout][]) {
  const version = hierarchyOf(layout, 'devices')?.version;
  describe.skipIf(!root || version === undefined)(`devices on ${kind} [needs root and a devices controller]`, () => {
    const check = async (group: Cgroup, script: string) => {
      const { pidfd } = run(group, script);
      return (await ended(pidfd))?.code;
    };
    const can = (group: Cgroup, open: string) => check(group, `exec ${open}`);

    it('what no rule allows is EPERM', async () => {
      const group = await Cgroup.create('allow', { parent, layout, controllers: [], limits: { devices: allowed } });
      expect(await can(group, '3<>/dev/null')).toBe(0);
      expect(await can(group, '3</dev/zero')).toBe(0);
      expect(await can(group, '3>/dev/zero')).not.toBe(0);
      expect(await can(group, '3<>/dev/zero')).not.toBe(0);
      expect(await can(group, '3</dev/urandom')).toBe(0);
      expect(await can(group, '3</dev/full')).not.toBe(0);
      // By perl, whose errno is to be seen: 1 is EPERM.
      const errno = 'exec perl -e \'open(F, "<", "/dev/full") and exit 99; exit($! + 0)\'';
      expect(await check(group, errno)).toBe(1);
      await group.remove();
    });

    it('mknod of what is denied is EPERM, and of what is allowed goes through', async () => {
      const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
      const group = await Cgroup.create('mknod', { parent, layout, controllers: [], limits: { devices: allowed } });
      try {
        expect(await check(group, `mknod ${folder}/a c 1 9`)).toBe(0);
        expect(await check(group, `mknod ${folder}/b c 1 7`)).not.toBe(0);
        expect(await check(group, `mknod ${folder}/c c 1 5`)).not.toBe(0);
      } finally {
        rmSync(folder, { recursive: true });
        await group.remove();
      }
    });

    it('exceptions from all: a denial of one letter denies every access with it', async () => {
      const devices: DeviceRule[] = [
        { allow: true },
        { allow: false, type: 'c', major: 1, minor: 5, access: 'w' },
        { allow: false, type: 'c', major: 1, minor: 9 },
      ];
      const group = await Cgroup.create('deny', { parent, layout, controllers: [], limits: { devices } });
      expect(await can(group, '3</dev/zero')).toBe(0);
      expect(await can(group, '3<>/dev/zero')).not.toBe(0);
      expect(await can(group, '3</dev/urandom')).not.toBe(0);
      expect(await can(group, '3</dev/full')).toBe(0);
      await group.remove();
    });

    it('rules are replaced, not added', async () => {
      const group = await Cgroup.create('replace', { parent, layout, controllers: [], limits: { devices: allowed } });
      await group.set({ devices: [{ allow: true, type: 'c', major: 1, minor: 7 }] });
      expect(await can(group, '3</dev/full')).toBe(0);
      expect(await can(group, '3</dev/zero')).not.toBe(0);
      if (version === 2) expect(group.devicePrograms()).toMatchObject([{ name: 'iso_devices' }]);
      else expect(file(group, 'devices', 'devices.list')).toBe('c 1:7 rwm');
      await group.remove();
    });

    it('a refusal leaves the rules that were there', async () => {
      const group = await Cgroup.create('back', { parent, layout, controllers: [], limits: { devices: allowed } });
      const before = version === 2 ? group.devicePrograms() : file(group, 'devices', 'devices.list');
      if (version === 1) {
        const hole: DeviceRule[] = [
          { allow: true, type: 'c', major: 1 },
          { allow: false, type: 'c', major: 1, minor: 5 },
        ];
        await expect(group.set({ devices: hole })).rejects.toMatchObject({ code: 'EUNSUPPORTED' });
        expect(file(group, 'devices', 'devices.list')).toBe(before);
      } else {
        await expect(group.set({ devices: [{ allow: 1 } as never] })).rejects.toThrow(TypeError);
        expect(group.devicePrograms()).toEqual(before);
      }
      await group.remove();
    });
  });
}
