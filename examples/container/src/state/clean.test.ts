import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it, vi } from 'vitest';
import { clean } from './clean.js';
import { type ContainerState, containerDirectory, writeState } from './document.js';

const home = mkdtempSync(join(tmpdir(), 'iso-test-'));
afterAll(() => rmSync(home, { recursive: true, force: true }));

it('tells of what it cannot remove, and removes the rest', async () => {
  const about = { version: 2, createdAt: '', root: '/', command: [], flags: { pull: 'missing' }, labels: {} } as const;
  const make = (id: string, more: Pick<ContainerState, 'status' | 'cgroup'>) => {
    mkdirSync(containerDirectory(home, id), { recursive: true });
    writeState(home, { ...about, id, name: id, restartCount: 0, autoRemove: false, ...more });
    return containerDirectory(home, id);
  };
  const stuck = make('a', { status: 'removing', cgroup: 'no cgroup' });
  const gone = make('b', { status: 'removing' });
  const said = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  await clean(home);
  expect(said.mock.calls.map(([text]) => text)).toEqual([
    expect.stringMatching(/^iso: what container a has left cannot be removed: /),
  ]);
  said.mockRestore();
  expect([existsSync(stuck), existsSync(gone)]).toEqual([true, false]);
});
