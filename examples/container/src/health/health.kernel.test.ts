import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { command } from '../testing/command.js';
import { lacking } from '../testing/lacking.js';
import type { Health } from './health.js';

const missing = lacking();
const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
const state = join(folder, 'state');
const shared = join(folder, 'shared');
mkdirSync(shared);
afterAll(() => {
  if (!missing) iso('rm', '-f', 'box', 'slow');
  rmSync(folder, { recursive: true, force: true });
});

function iso(...args: string[]) {
  return spawnSync(process.execPath, [...command, ...args], {
    encoding: 'utf8',
    env: { ...process.env, ISO_ROOT: state },
  });
}

function ok(...args: string[]): string {
  const { status, stdout, stderr } = iso(...args);
  expect([args, stderr, status]).toEqual([args, '', 0]);
  return stdout;
}

/** Looks at the record until it says so. */
async function until(id: string, is: (health: Health) => boolean): Promise<void> {
  const file = join(state, 'containers', id.trim(), 'state.json');
  const look = () => is((JSON.parse(readFileSync(file, 'utf8')) as { health: Health }).health);
  const end = Date.now() + 20_000;
  let done = look();
  for (; !done && Date.now() < end; done = look()) await sleep(20);
  expect(done).toBe(true);
}

const inspect = (name: string) => JSON.parse(ok('inspect', '-f', '{{json .State.Health}}', name)) as Health;

/** Processes of such a command line, as the kernel has them. */
const processes = (...words: string[]) =>
  readdirSync('/proc').filter((pid) => {
    const file = `/proc/${pid}/cmdline`;
    try {
      return /^\d+$/.test(pid) && readFileSync(file, 'utf8') === words.map((word) => `${word}\0`).join('');
    } catch {
      return false;
    }
  });

describe.skipIf(missing)(`a healthcheck${missing}`, () => {
  it('tells whether a container is well', async () => {
    const check = ['--health-cmd', 'hostname; test -e /shared/well', '--health-interval', '100ms'];
    const box = ok(
      ...['run', '-d', '--name', 'box', '--hostname', 'inside', '-v', `${shared}:/shared`],
      ...[...check, '--health-retries', '2', '/', 'sleep', '100'],
    );
    await until(box, ({ Status, FailingStreak }) => Status === 'unhealthy' && FailingStreak >= 2);
    writeFileSync(join(shared, 'well'), '');
    await until(box, ({ Status, Log }) => Status === 'healthy' && Log.length === 5);
    const well = inspect('box');
    expect(well).toMatchObject({ Status: 'healthy', FailingStreak: 0 });
    expect(well.Log).toHaveLength(5);
    expect(well.Log.at(-1)).toMatchObject({ ExitCode: 0, Output: 'inside\n' });
    expect(ok('ps', '--filter', 'health=healthy', '--format', '{{.Names}}: {{.Status}}')).toMatch(
      /^box: Up .+ \(healthy\)\n$/,
    );
    const events = ['events', '--since', '1h', '--until', '0s', '--format', '{{.Action}}'];
    expect(ok(...events, '--filter', 'event=health_status')).toBe('health_status: unhealthy\nhealth_status: healthy\n');
  });

  it('that takes too long is a failure, and its processes are killed', async () => {
    const long = String(100_000 + process.pid);
    const check = ['--health-cmd', `yes x | head -c 5000; sleep ${long}; true`, '--health-interval', '10ms'];
    const slow = ok(
      ...['run', '-d', '--name', 'slow', ...check],
      ...['--health-timeout', '200ms', '--health-retries', '99', '/', 'sleep', '100'],
    );
    await until(slow, ({ Log }) => Log.length > 1);
    // None but that of the probe that runs now.
    expect(processes('sleep', long).length).toBeLessThanOrEqual(1);
    const { Status, FailingStreak, Log } = inspect('slow');
    expect(Status).toBe('starting');
    expect(FailingStreak).toBeGreaterThan(1);
    expect(Log[0]).toMatchObject({
      ExitCode: -1,
      Output: expect.stringMatching(/^Health .* timeout \(0\.2s\): (x\n){2048}\.\.\.$/),
    });
    const took = Date.parse(Log[0]?.End ?? '') - Date.parse(Log[0]?.Start ?? '');
    expect(took).toBeGreaterThanOrEqual(190);
  });
});
