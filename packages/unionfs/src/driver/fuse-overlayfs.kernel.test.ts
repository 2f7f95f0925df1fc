// fuse-overlayfs against the conformance suite: as root, and as a plain user in a user namespace.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { KernelError } from '@iso/sys';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { asPlainUser, conform, PRIVILEGED, passed } from '../testing/conformance.js';
import { fuseOverlayfs } from './fuse-overlayfs.js';

const root = process.getuid?.() === 0;
const program = spawnSync('sh', ['-c', 'command -v fuse-overlayfs']).status === 0;
const device = existsSync('/dev/fuse');
const skip = !root || !program || !device;
const needs = skip ? ` [needs ${!root ? 'root' : program ? '/dev/fuse' : 'fuse-overlayfs'}]` : '';
let folder = '';
const at = (name: string) => join(folder, name);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-fuse-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Processes of the program on our layers. */
const running = () =>
  readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/comm`, 'utf8') === 'fuse-overlayfs\n';
    } catch {
      return false;
    }
  });

describe('fuse-overlayfs', () => {
  it.skipIf(skip)(`passes${needs}`, { timeout: 120_000 }, () => {
    expect(conform('fuse-overlayfs', at('root'))).toEqual(passed());
  });

  it.skipIf(skip)(`passes as a plain user in a user namespace${needs}`, { timeout: 120_000 }, () => {
    // The machine's own device may be root's alone.
    const device = 'mount -t tmpfs none /mnt && mknod -m 666 /mnt/fuse c 10 229 && mount --bind /mnt/fuse /dev/fuse';
    const omit = `${PRIVILEGED}${process.env.ISO_LONG ? '' : '|layers on layers'}`;
    const before = asPlainUser(at('user'), device);
    expect(conform('fuse-overlayfs', at('user'), { omit, before })).toEqual(passed(omit));
  });

  it.skipIf(skip)(`ends its process with the mount, and says what it says${needs}`, async () => {
    const layers = mkdtempSync(at('layers-'));
    using driver = fuseOverlayfs(layers);
    driver.create('a', []);
    driver.create('b', ['a']);
    const before = running();
    const mount = driver.open('b', ['a']);
    const mine = running().filter((pid) => !before.includes(pid));
    expect(mine).toHaveLength(1);
    mount.close();
    for (let i = 0; i < 200 && running().includes(mine[0] as string); i++) await sleep(20);
    expect(running()).not.toContain(mine[0]);
    rmSync(join(layers, 'b/work'), { recursive: true });
    execFileSync('touch', [join(layers, 'b/work')]);
    let error: unknown;
    try {
      driver.open('b', ['a']).close();
    } catch (thrown) {
      error = thrown;
    }
    expect(KernelError.is(error)).toBe(true);
  });
});
