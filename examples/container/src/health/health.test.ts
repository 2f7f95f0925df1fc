import { describe, expect, it } from 'vitest';
import { type HealthFlags, healthConfig, healthPlan } from './config.js';
import { type Health, judge, STARTING, untilNext } from './health.js';

const plan = healthPlan({ Test: ['CMD', 'x'], StartPeriod: 10e9, StartInterval: 1e9, Retries: 2 }) as NonNullable<
  ReturnType<typeof healthPlan>
>;

/** A life by a false clock: each probe with how long the container has run, and its exit code. */
function live(...probes: [ranMs: number, code: number][]): Health {
  return probes.reduce(
    (health, [ranMs, ExitCode]) =>
      judge(
        health,
        { Start: String(ranMs), End: String(ranMs + 1), ExitCode, Output: `${ExitCode} at ${ranMs}` },
        plan,
        ranMs,
      ),
    STARTING,
  );
}

const told = ({ Status, FailingStreak }: Health) => `${Status} ${FailingStreak}`;

describe('the health of a container', () => {
  it.each([
    ['starting 0', []],
    // In the start period failures do not count,
    [
      'starting 0',
      [
        [0, 1],
        [5000, 1],
        [9999, -1],
      ],
    ],
    [
      'starting 1',
      [
        [0, 1],
        [10_000, 1],
      ],
    ],
    [
      'unhealthy 2',
      [
        [0, 1],
        [10_000, 1],
        [11_000, 137],
      ],
    ],
    // until the first success.
    [
      'healthy 0',
      [
        [0, 1],
        [1000, 0],
      ],
    ],
    [
      'healthy 1',
      [
        [1000, 0],
        [2000, 1],
      ],
    ],
    [
      'unhealthy 2',
      [
        [1000, 0],
        [2000, 1],
        [3000, -1],
      ],
    ],
    [
      'unhealthy 3',
      [
        [1000, 0],
        [2000, 1],
        [3000, 1],
        [4000, 1],
      ],
    ],
    // One success makes up for all.
    [
      'healthy 0',
      [
        [20_000, 1],
        [30_000, 1],
        [40_000, 0],
      ],
    ],
    [
      'healthy 1',
      [
        [20_000, 1],
        [30_000, 0],
        [40_000, 1],
      ],
    ],
  ] as [string, [number, number][]][])('%s after %j', (expected, probes) =>
    expect(told(live(...probes))).toBe(expected),
  );

  it('keeps the last five answers, the oldest first', () => {
    const { Log } = live([1, 0], [2, 1], [3, 0], [4, 7], [5, 0], [6, -1], [7, 0]);
    expect(Log.map(({ Start, ExitCode }) => [Start, ExitCode])).toEqual([
      ['3', 0],
      ['4', 7],
      ['5', 0],
      ['6', -1],
      ['7', 0],
    ]);
    expect(Log[1]).toEqual({ Start: '4', End: '5', ExitCode: 7, Output: '7 at 4' });
  });

  it('is asked for more often in the start period, until the first success', () => {
    const after = (ranMs: number, ...probes: [number, number][]) => untilNext(live(...probes), plan, ranMs);
    expect([after(0), after(9999, [1000, 1]), after(10_000, [1000, 1]), after(1000, [1000, 0])]).toEqual([
      1000, 1000, 30_000, 30_000,
    ]);
  });
});

describe('a healthcheck', () => {
  it('has docker’s defaults, and the shell of its image', () => {
    expect(healthPlan({ Test: ['CMD', 'curl', 'x'] })).toEqual({
      command: ['curl', 'x'],
      interval: 30_000,
      timeout: 30_000,
      startPeriod: 0,
      startInterval: 5000,
      retries: 3,
    });
    const command = (Test: string[], Shell?: string[]) => healthPlan({ Test, ...(Shell ? { Shell } : {}) })?.command;
    expect(command(['CMD-SHELL', 'a || b'])).toEqual(['/bin/sh', '-c', 'a || b']);
    expect(command(['CMD-SHELL', 'a'], ['/bin/ash', '-ec'])).toEqual(['/bin/ash', '-ec', 'a']);
  });

  it.each([
    [[]],
    [['NONE']],
    [['CMD']],
    [['CMD-SHELL']],
    [['CMD', '']],
    [['nothing', 'x']],
    ['CMD'],
    [[1]],
    [undefined],
  ])('is none where its test is %j', (Test) => expect(healthPlan({ Test } as never)).toBeUndefined());

  it('is what options say, and its image where they do not', () => {
    const image = { Healthcheck: { Test: ['CMD', 'x'], Interval: 5e9, Retries: 7 }, Shell: ['/bin/ash', '-c'] };
    const of = (flags: HealthFlags) => healthConfig(flags, image);
    expect(of({})).toEqual({ ...image.Healthcheck, Shell: image.Shell });
    expect(of({ healthInterval: 1500, healthRetries: 0 })).toMatchObject({
      Test: ['CMD', 'x'],
      Interval: 15e8,
      Retries: 7,
    });
    expect(of({ healthCmd: 'y' })).toMatchObject({ Test: ['CMD-SHELL', 'y'], Interval: 5e9 });
    expect(of({ healthcheck: false })).toEqual({ Test: ['NONE'] });
    expect(healthConfig({ healthcheck: true })).toBeUndefined();
    expect(() => of({ healthcheck: false, healthCmd: 'y' })).toThrow('conflicting options');
  });
});
