import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { mountSetattr, openTree } from '@iso/mounts';
import { UserNamespace } from '@iso/namespaces';
import { type DriverProbe, probeDrivers } from '@iso/unionfs';
import { type Finding, trying } from './finding.js';

/**
 * Each storage driver, where images are kept, and mounts whose ids are mapped.
 *
 * @param home - where state is kept
 * @returns what was found
 */
export function examineStorage(home: string): Finding[] {
  const directory = join(home, 'doctor');
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  try {
    const of = trying('storage');
    return [
      ...probeDrivers(directory).map(driver),
      of('id-mapped mounts', () => {
        const place = mkdtempSync(join(directory, 'mapped-'));
        const ids = [{ inside: 0, outside: 100_000, count: 65_536 }];
        const user = UserNamespace.create({ uidMap: ids, gidMap: ids });
        try {
          using mount = openTree(null, place, { clone: true });
          mountSetattr(mount, '', { idmap: user.fd });
        } finally {
          user.close();
        }
        return `of the file system of ${home}`;
      }),
    ];
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const changes: Readonly<Record<DriverProbe['code'], string | undefined>> = {
  ok: undefined,
  'no-kernel': 'who chooses the kernel and loads its modules',
  'no-tool': 'root: install the program',
  'no-permission': 'root of this machine',
  'bad-backing-fs': 'who chooses where state is kept: ISO_ROOT',
  failed: undefined,
};

function driver({ driver: name, code, reason }: DriverProbe): Finding {
  const state = code === 'ok' ? 'yes' : code === 'failed' ? 'unknown' : 'no';
  const change = changes[code];
  return { area: 'storage', name, state, detail: reason, ...(change ? { change } : {}) };
}
