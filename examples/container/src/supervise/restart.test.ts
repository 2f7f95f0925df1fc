import { describe, expect, it } from 'vitest';
import { parseRestart, Restarts } from './restart.js';

describe('a restart policy', () => {
  it('is one of docker’s', () => {
    expect(parseRestart('on-failure:3')).toEqual({ name: 'on-failure', most: 3 });
    expect(parseRestart('always')).toEqual({ name: 'always', most: 0 });
    for (const text of ['', 'never', 'always:1', 'on-failure:', 'on-failure:x', 'on-failure:-1'])
      expect(() => parseRestart(text)).toThrow('not a restart policy');
  });

  it('waits 100 ms, each time twice as long up to a minute, and begins anew after ten good seconds', () => {
    const restarts = new Restarts(parseRestart('always'));
    const next = (ranMs: number) => restarts.next({ exitCode: 0, ranMs, stopped: false });
    const delays = Array.from({ length: 12 }, () => next(5));
    expect(delays).toEqual([100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
    expect([next(10_000), next(9999)]).toEqual([100, 200]);
  });

  it('tells failures from ends, counts them, and heeds commands', () => {
    const of = (text: string, exitCode: number, stopped = false) =>
      new Restarts(parseRestart(text)).next({ exitCode, ranMs: 0, stopped });
    expect([of('on-failure', 0), of('on-failure', 1), of('no', 1), of('unless-stopped', 0)]).toEqual([
      undefined,
      100,
      undefined,
      100,
    ]);
    expect([of('always', 1, true), of('unless-stopped', 1, true)]).toEqual([undefined, undefined]);
    const twice = new Restarts(parseRestart('on-failure:2'));
    const fail = () => twice.next({ exitCode: 1, ranMs: 20_000, stopped: false });
    expect([fail(), fail(), fail()]).toEqual([100, 100, undefined]);
  });
});
