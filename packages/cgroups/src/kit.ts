// What the kernel tests share: where they run, and processes that are born in a group by nothing but the launcher.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { type Fd, LaunchProgram, launch, reap, StringArray, watchFd } from '@iso/sys';
import { afterAll, beforeAll, expect } from 'vitest';
import { type Cgroup, type Controller, detect, hierarchyOf, type Layout, onlyVersion } from './index.js';
import { deviceNumber } from './limits/device.js';

export const root = process.getuid?.() === 0;
const machine = detect();

/** The ways to see this machine: as it is, and on hybrid ones each half by itself. */
export const layouts: [string, Layout][] =
  machine.kind === 'hybrid'
    ? [
        ['hybrid', machine],
        ['legacy', onlyVersion(machine, 1)],
      ]
    : [[machine.kind, machine]];

/** The v2 tree alone, with whatever controllers it has. */
export const unified: Layout | undefined = machine.unified === undefined ? undefined : onlyVersion(machine, 2);

/** Whether a controller is on a version here. */
export function has(layout: Layout | undefined, controller: Controller, version?: 1 | 2): boolean {
  const hierarchy = layout && hierarchyOf(layout, controller);
  return root && hierarchy !== undefined && (version === undefined || hierarchy.version === version);
}

/** A whole disk that limits on I/O are tried on: an empty one that a virtual machine has for it, or what `/` lies on. */
export const disk = ((): { path: string; number: string; empty: boolean } | undefined => {
  const own = process.env.ISO_DISK;
  if (own)
    return { path: own, number: readFileSync(`/sys/class/block/${basename(own)}/dev`, 'utf8').trim(), empty: true };
  const number = deviceNumber('/');
  return existsSync(`/sys/dev/block/${number}`) ? { path: '/', number, empty: false } : undefined;
})();

/**
 * Work that takes its time, done on every layout at the same time; each layout's test gets its own result. What runs meanwhile is over
 * when the first of them has it.
 */
export function atOnce<T>(work: (layout: Layout) => Promise<T>): (layout: Layout) => Promise<T> {
  let all: Promise<PromiseSettledResult<T>[]> | undefined;
  return async (layout) => {
    const results = await (all ??= Promise.allSettled(layouts.map(([, one]) => work(one))));
    const result = results[layouts.findIndex(([, one]) => one === layout)] as PromiseSettledResult<T>;
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  };
}

/** A group above those of a test file, there while the file runs. */
export function testParent(name: string): string {
  const parent = `iso-test-${process.pid}-${name}`;
  const places = machine.hierarchies.map(({ mount }) => `${mount}/${parent}`);
  beforeAll(() => {
    if (root) for (const path of places) mkdirSync(path);
  });
  afterAll(() => clean(places));
  return parent;
}

/** Removes what tests that failed left, with no help of what is tested. */
async function clean(places: readonly string[]): Promise<void> {
  const below = (path: string): string[] => [
    ...readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .flatMap((entry) => below(`${path}/${entry.name}`)),
    path,
  ];
  for (let tries = 0; tries < 100 && places.some(existsSync); tries++) {
    for (const path of places.filter(existsSync).flatMap(below)) {
      try {
        if (existsSync(`${path}/cgroup.kill`)) writeFileSync(`${path}/cgroup.kill`, '1', { flag: 'r+' });
        if (existsSync(`${path}/freezer.state`)) writeFileSync(`${path}/freezer.state`, 'THAWED', { flag: 'r+' });
        for (const pid of readFileSync(`${path}/cgroup.procs`, 'utf8').split('\n').filter(Boolean)) {
          process.kill(Number(pid), 'SIGKILL');
        }
        rmdirSync(path);
      } catch {
        // Busy with what was killed a moment ago.
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** What the kernel has in a group's file. */
export function file(group: Cgroup, controller: Controller | undefined, name: string): string {
  return readFileSync(`${group.path(controller)}/${name}`, 'utf8').trim();
}

/** A shell that is born in a group. */
export function shell(group: Cgroup, script: string): LaunchProgram {
  const program = new LaunchProgram();
  group.confine(program);
  program.step('fds', 'fcntl', [2, 2, 0]);
  program.closeFrom(3);
  program.step('exec', 'execve', [
    '/bin/sh',
    new StringArray(['sh', '-c', script]),
    new StringArray(['PATH=/usr/bin:/bin']),
  ]);
  return program;
}

/** Starts one. */
export function run(group: Cgroup, script: string) {
  return launch(shell(group, script));
}

export async function ended(pidfd: Fd) {
  await watchFd(pidfd);
  const status = reap(pidfd);
  pidfd.close();
  return status;
}

/** Waits for something to become true, on slow machines too. */
export async function eventually(what: () => boolean, timeoutMs = 20_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!what()) {
    expect(Date.now(), `it does not come about: ${what}`).toBeLessThan(deadline);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
