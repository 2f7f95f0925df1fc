// A hundred lines of docker's, by podman and by iso: the same exit codes and output, but for what is meant to differ.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lacking } from '../testing/lacking.js';
import { Desk, type Engine, iso, podman } from './engine.js';
import { lines } from './lines.js';

const long = process.env.ISO_LONG ? lacking('busybox', 'podman', 'script') : ' [needs ISO_LONG=1]';
// Podman takes no path of its own that is longer than 50 characters.
const folder = mkdtempSync('/tmp/iso-test-');
const MINUTE = 60_000;

describe.skipIf(long)(`a line of docker’s${long}`, () => {
  let desk: Desk;
  let other: Engine;

  beforeAll(() => {
    const { stdout } = spawnSync('sh', ['-c', 'command -v busybox'], { encoding: 'utf8' });
    desk = new Desk(folder, stdout.trim());
    expect(desk.prepare(iso)).toMatchObject({ code: 0 });
    // Which of them works depends on the machine's cgroups.
    const works = ['crun', 'runc'].map(podman).find((engine) => desk.prepare(engine).code === 0);
    expect(works, 'podman runs nothing here, by crun or by runc').toBeDefined();
    other = works as Engine;
  }, 30 * MINUTE);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('is one of a hundred', () => expect(Object.values(lines).flat()).toHaveLength(100));

  it.each(Object.entries(lines))('gives what podman gives: %s', { timeout: 60 * MINUTE }, (_, all) => {
    const found = all.map((line) => ({ ...line, podman: desk.run(other, line), iso: desk.run(iso, line) }));
    const same = (one: (typeof found)[number]) => JSON.stringify(one.podman) === JSON.stringify(one.iso);
    // A reason for a difference that is no more is as wrong as a difference without a reason.
    expect(found.filter((one) => same(one) !== (one.differs === undefined))).toEqual([]);
  });
});
