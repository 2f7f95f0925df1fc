import { describe, expect, it } from 'vitest';
import { Feed } from './feed.js';

describe('Feed', () => {
  it('merges what nobody took yet, and gives it out after the end', async () => {
    let closed = 0;
    const feed = new Feed<number>(
      (a, b) => a + b,
      () => closed++,
    );
    feed.push('a', 1);
    feed.push('b', 10);
    feed.push('a', 2);
    feed.end();
    feed.end();
    const seen: number[] = [];
    for await (const value of feed) seen.push(value);
    expect(seen).toEqual([3, 10]);
    expect(closed).toBe(1);
  });

  it('wakes who waits, in order', async () => {
    const feed = new Feed<number>(
      (_, b) => b,
      () => undefined,
    );
    const both = Promise.all([feed.next(), feed.next()]);
    feed.push('a', 1);
    feed.push('a', 2);
    expect(await both).toEqual([
      { value: 1, done: false },
      { value: 2, done: false },
    ]);
    await feed.return();
    expect(await feed.next()).toMatchObject({ done: true });
  });

  it('rejects with the reason of its signal, once, and closes', async () => {
    const controller = new AbortController();
    let closed = 0;
    const feed = new Feed<number>(
      (_, b) => b,
      () => closed++,
      controller.signal,
    );
    const waiting = feed.next();
    controller.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    expect(await feed.next()).toMatchObject({ done: true });
    expect(closed).toBe(1);
    const late = new Feed<number>(
      (_, b) => b,
      () => closed++,
      controller.signal,
    );
    await expect(late.next()).rejects.toThrow('enough');
    expect(closed).toBe(2);
  });
});
