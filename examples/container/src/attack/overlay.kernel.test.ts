// A union in a user namespace copies files up: what they let others do on the host is not copied with them (CVE-2023-0386, CVE-2021-3493,
// CVE-2023-2640, CVE-2023-32629). A union of the host's root does copy it.
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rootfs } from '@iso/mounts';
import { namespaces } from '@iso/namespaces';
import { AT, type Part } from '@iso/sys';
import { overlay } from '@iso/unionfs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { inside } from '../../../../test/confined.js';
import { lacking } from '../testing/lacking.js';

const missing = lacking('setcap', 'getcap');
/** Whose the namespace is; its root on the host. */
const OWNER = 65534;
const SETUID = 0o4000;
let folder = '';
const at = (...names: string[]) => join(folder, ...names);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
  chmodSync(folder, 0o755);
  for (const name of ['lower', 'upper', 'work', 'lower/usr']) {
    mkdirSync(at(name));
    chownSync(at(name), OWNER, OWNER);
  }
  for (const [name, owner] of [
    ['of-root', 0],
    ['of-owner', OWNER],
    ['able', OWNER],
  ] as const) {
    writeFileSync(at('lower', name), '#!/bin/true\n');
    chownSync(at('lower', name), owner, owner);
    chmodSync(at('lower', name), name === 'able' ? 0o755 : 0o4755);
  }
  expect(spawnSync('setcap', ['cap_sys_admin+ep', at('lower/able')]).status).toBe(0);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Has all three copied up, as far as the kernel does. */
async function copyUp(user: boolean): Promise<void> {
  const map = [{ inside: 0, outside: OWNER, count: 1 }];
  const own = namespaces({ mount: 'new', ...(user ? { user: { uidMap: map, gidMap: map } } : {}) });
  const union = overlay({ lower: [at('lower')], upper: at('upper'), work: at('work'), userxattr: user });
  const root = rootfs({
    root: union,
    mounts: [{ type: 'bind', source: '/usr', target: '/usr', readonly: true, recursive: true }],
  });
  const part: Part = {
    async confine(program) {
      await own.confine(program);
      await root.confine(program);
      program.step('root', 'symlinkat', ['usr/bin', AT.FDCWD, '/bin']);
      for (const name of ['lib', 'lib64']) program.step('root', 'symlinkat', [`usr/${name}`, AT.FDCWD, `/${name}`]);
    },
  };
  await inside(part, 'cd /; for file in of-root of-owner able; do /usr/bin/touch -c $file 2>&1; done; :');
}

/** What the copies let whoever runs them do. */
function powers() {
  const powerful = (name: string) => {
    const path = at('upper', name);
    if (!existsSync(path)) return 'nothing';
    const { uid, mode } = statSync(path);
    const caps = spawnSync('getcap', ['-n', path], { encoding: 'utf8' }).stdout.replace(path, '').trim();
    return `${mode & SETUID ? `setuid ${uid}` : ''}${caps}` || 'nothing';
  };
  return { ofRoot: powerful('of-root'), ofOwner: powerful('of-owner'), able: powerful('able') };
}

describe.skipIf(missing)(`files that are copied up${missing}`, () => {
  it('give nobody more than who owns the user namespace has', async () => {
    await copyUp(true);
    const { ofRoot, ofOwner, able } = powers();
    expect(ofRoot).toBe('nothing');
    expect(ofOwner).toBe(`setuid ${OWNER}`);
    // Of the namespace's root, or gone.
    expect(able).toMatch(/^(nothing|cap_sys_admin=ep \[rootid=65534\])$/);
  });

  it('give what they had where the host’s root mounts them', async () => {
    await copyUp(false);
    expect(powers()).toEqual({ ofRoot: 'setuid 0', ofOwner: `setuid ${OWNER}`, able: 'cap_sys_admin=ep' });
  });
});
