import { describe, expect, it } from 'vitest';
import { aufsOptions } from './options.js';

describe('options of aufs', () => {
  it('say which branch is written, and that whiteouts of the others count', () => {
    expect(aufsOptions(['3', '4', '5'], { writable: true, most: 4095 })).toEqual(['br=3=rw:4=ro+wh:5=ro+wh']);
    expect(aufsOptions(['3', '4'], { writable: false, most: 4095 })).toEqual(['noxino,br=3=ro+wh:4=ro+wh']);
    expect(aufsOptions(['3'], { writable: true, most: 4095 })).toEqual(['br=3=rw']);
  });

  it('append by remounts what one call does not hold', () => {
    const calls = aufsOptions(['3', '4', '5', '6'], { writable: true, most: 24 });
    expect(calls).toEqual(['br=3=rw:4=ro+wh:5=ro+wh', 'append=6=ro+wh']);
    const names = Array.from({ length: 1000 }, (_, i) => String(i + 3));
    const many = aufsOptions(names, { writable: true, most: 4095 });
    expect(many.length).toBeGreaterThan(2);
    expect(many.every((call) => call.length <= 4095)).toBe(true);
    const read = many.flatMap((call) => [...call.matchAll(/(?:br=|append=|:)(\d+)=/g)].map(([, name]) => name));
    expect(read).toEqual(names);
  });

  it.each([[[]], [['a:b']], [['a,b']], [['a=rw']], [['']]])('refuse %j', (names) => {
    expect(() => aufsOptions(names, { writable: true, most: 4095 })).toThrow(TypeError);
  });
});
