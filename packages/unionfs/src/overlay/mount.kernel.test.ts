import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MountTree } from '@iso/mounts';
import { CLONE, Fd, KernelError, park, UnsupportedError } from '@iso/sys';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { mountAttached } from './attached.js';
import { openOverlay } from './mount.js';
import { settleVolatile } from './volatile.js';

const root = process.getuid?.() === 0;
const needs = root ? '' : ' [needs root]';
let folder = '';
const at = (name: string) => join(folder, name);
const layer = (name: string | Buffer, files: Record<string, string>) => {
  const path = Buffer.concat([Buffer.from(`${folder}/`), Buffer.from(name)]);
  mkdirSync(path, { recursive: true });
  for (const [file, content] of Object.entries(files))
    writeFileSync(Buffer.concat([path, Buffer.from(`/${file}`)]), content);
  return path.toString();
};
/** What the kernel shows through a detached mount. */
const inside = (mount: Fd, path: string) => readFileSync(`/proc/self/fd/${mount.number}/${path}`, 'utf8');
const fails = (action: () => { close(): void }) => {
  try {
    action().close();
  } catch (error) {
    return error as KernelError;
  }
  throw new Error('it was mounted');
};

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-overlay-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe.skipIf(!root)(`openOverlay${needs}`, () => {
  it('mounts layers whose paths hold any character, at any length', () => {
    const names = ['a:b', 'a,b', 'a\\b', 'a\\:b', 'a b', 'a\nb', `${'long/'.repeat(200)}x`];
    const lower = names.map((name, i) => layer(name, { [`f${i}`]: name }));
    using mount = openOverlay({ lower, upper: layer('up:,\\', {}), work: layer('work:,\\', {}) });
    for (const [i, name] of names.entries()) expect(inside(mount, `f${i}`)).toBe(name);
    writeFileSync(`/proc/self/fd/${mount.number}/new`, 'written');
    expect(readFileSync(at('up:,\\/new'), 'utf8')).toBe('written');
  });

  it('mounts the same in a child where the kernel takes no descriptors', () => {
    const lower = Array.from({ length: 300 }, (_, i) => layer(`l${i}`, { [`f${i}`]: String(i), same: String(i) }));
    const trees = lower.map((path) => MountTree.clone(path));
    using upper = Fd.open(layer('up:,\\', { u: '' }), { directory: true, path: true });
    using work = Fd.open(layer('work', {}), { directory: true, path: true });
    const layers = { lower: trees.map(({ fd }) => fd), data: [], writable: { upper, work } };
    using mount = mountAttached(layers, [['metacopy', 'off']], 0);
    for (const tree of trees) tree.close();
    expect([inside(mount, 'same'), inside(mount, 'f299')]).toEqual(['0', '299']);
    writeFileSync(`/proc/self/fd/${mount.number}/new`, 'written');
    expect(readFileSync(at('up:,\\/new'), 'utf8')).toBe('written');
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(folder);
  });

  it('takes 500 layers, and not 501', () => {
    const lower = Array.from({ length: 500 }, (_, i) => layer(`l${i}`, { [`f${i}`]: String(i), same: String(i) }));
    using mount = openOverlay({ lower });
    expect(inside(mount, 'same')).toBe('0');
    expect(inside(mount, 'f499')).toBe('499');
    expect(() => openOverlay({ lower: [...lower, folder] })).toThrow(/500/);
  });

  it('says what the kernel says', () => {
    const same = layer('a', {});
    const error = fails(() => openOverlay({ lower: [same, same] }));
    expect(KernelError.is(error, 'ELOOP')).toBe(true);
    const odd = fails(() => openOverlay({ lower: [same, layer('b', {})], xino: 'odd' as 'on' }));
    // Linux 6.5 is the first to have words for overlays.
    expect(odd.kernelMessage ?? odd.hint).toMatch(/Bad value for 'xino'|the kernel log says why/);
    const upper = layer('u', {});
    const inUpper = fails(() => openOverlay({ lower: [same], upper, work: layer('u/work', {}) }));
    expect(inUpper.code).toBe('EINVAL');
  });

  it('renames directories by a mark where that was asked for, and else not', () => {
    const lower = [layer('a/d', { f: 'x' }).slice(0, -2)];
    for (const redirectDir of ['off', 'on'] as const) {
      const [upper, work] = [layer(`u-${redirectDir}`, {}), layer(`w-${redirectDir}`, {})];
      using mount = openOverlay({ lower, upper, work, redirectDir });
      const rename = () => renameSync(`/proc/self/fd/${mount.number}/d`, `/proc/self/fd/${mount.number}/e`);
      if (redirectDir === 'off') expect(rename).toThrow(/EXDEV/);
      else rename();
      expect(inside(mount, redirectDir === 'off' ? 'd/f' : 'e/f')).toBe('x');
    }
  });

  it('keeps data of metacopy files in a layer of data only [needs Linux 6.5]', (context) => {
    const data = layer('data', { blob: 'the content' });
    const meta = layer('meta', { f: '' });
    execFileSync('truncate', ['-s', '11', `${meta}/f`]);
    execFileSync('setfattr', ['-n', 'trusted.overlay.metacopy', '-v', '', `${meta}/f`]);
    execFileSync('setfattr', ['-n', 'trusted.overlay.redirect', '-v', '/blob', `${meta}/f`]);
    using mount = ((): Fd => {
      try {
        return openOverlay({ lower: [meta], dataOnly: [data], metacopy: true, redirectDir: 'on' });
      } catch (error) {
        if (error instanceof UnsupportedError && error.feature === 'layers of data only') return context.skip();
        throw error;
      }
    })();
    expect(inside(mount, 'f')).toBe('the content');
  });

  it('shows layers with mapped ids [needs a temporary directory that can be id-mapped]', (context) => {
    using child = park(CLONE.NEWUSER);
    for (const kind of ['uid', 'gid']) writeFileSync(`/proc/${child.pid}/${kind}_map`, '0 100000 65536');
    using user = Fd.open(`/proc/${child.pid}/ns/user`);
    const lower = [layer('a', { f: 'x' }), layer('b', {})];
    using mount = ((): Fd => {
      try {
        return openOverlay({ lower, idmap: user });
      } catch (error) {
        // tmpfs before Linux 6.3.
        if (KernelError.is(error, 'EINVAL') && error.syscall === 'mount_setattr') return context.skip();
        throw error;
      }
    })();
    const owner = execFileSync('stat', ['-Lc', '%u:%g', `/proc/${process.pid}/fd/${mount.number}/f`], {
      encoding: 'utf8',
    });
    expect(owner.trim()).toBe('100000:100000');
  });

  it('refuses a writable layer that a volatile overlay left, until that is settled', () => {
    const options = { lower: [layer('a', { f: 'x' })], upper: layer('u', {}), work: layer('w', {}) };
    openOverlay({ ...options, volatile: true }).close();
    const error = fails(() => openOverlay(options));
    expect([error.code, error.hint]).toEqual(['EINVAL', expect.stringContaining('settleVolatile')]);
    settleVolatile(options.work);
    openOverlay(options).close();
  });

  it('refuses what is no overlay', () => {
    const a = layer('a', {});
    for (const options of [
      { lower: [] },
      { lower: [a] },
      { lower: [a], upper: a },
      { lower: [a, a], userxattr: true, metacopy: true },
    ]) {
      expect(() => openOverlay(options)).toThrow(TypeError);
    }
  });
});
