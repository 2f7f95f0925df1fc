import { describe, expect, it } from 'vitest';
import { DetachKeys, parseDetachKeys } from './detach-keys.js';

describe('keys to detach', () => {
  it('are characters and control characters', () => {
    expect([...parseDetachKeys()]).toEqual([0x10, 0x11]);
    expect([...parseDetachKeys('a,ctrl-@,ctrl-_,ctrl-Z')]).toEqual([0x61, 0, 0x1f, 0x1a]);
    expect([...parseDetachKeys('')]).toEqual([]);
    for (const text of ['ctrl-', 'ctrl-1', 'ab', 'a,', 'ctrl-p ctrl-q'])
      expect(() => parseDetachKeys(text)).toThrow('not keys');
  });

  it('are found across what is typed at once, and what only begins as they do is passed on', () => {
    const keys = new DetachKeys(parseDetachKeys('ctrl-p,ctrl-q'));
    const take = (text: string) => {
      const { rest, detach } = keys.take(Buffer.from(text));
      return [rest.toString(), detach];
    };
    expect(take('ls\n')).toEqual(['ls\n', false]);
    expect(take('x\x10')).toEqual(['x', false]);
    expect(take('y')).toEqual(['\x10y', false]);
    expect(take('\x10\x10')).toEqual(['\x10', false]);
    expect(take('\x11rest')).toEqual(['', true]);
    expect(new DetachKeys(Buffer.alloc(0)).take(Buffer.from('\x10\x11'))).toMatchObject({ detach: false });
  });
});
