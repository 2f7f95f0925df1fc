import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { deviceProgram } from './program.js';
import { type DeviceRule, listWrites } from './rule.js';

/** An access as the kernel asks for it. */
interface Access {
  type: 'b' | 'c';
  major: number;
  minor: number;
  letters: string;
}

/** What rules mean, said once more and differently: letter by letter, the last rule that matches. */
function meaning(rules: readonly DeviceRule[], { type, major, minor, letters }: Access): boolean {
  return [...letters].every(
    (letter) =>
      rules.findLast(
        (rule) =>
          ((rule.type ?? 'a') === 'a' || rule.type === type) &&
          (rule.major === undefined || rule.major === major) &&
          (rule.minor === undefined || rule.minor === minor) &&
          (rule.access ?? 'rwm').includes(letter),
      )?.allow ?? false,
  );
}

/** Runs a program as the kernel's machine would. */
function execute(program: Buffer, { type, major, minor, letters }: Access): boolean {
  const bits = { m: 1, r: 2, w: 4 } as Record<string, number>;
  const wanted = [...letters].reduce((sum, letter) => sum | (bits[letter] as number), 0);
  const context = [(type === 'b' ? 1 : 2) | (wanted << 16), major, minor];
  const r = new Array<number>(11).fill(0);
  for (let at = 0, steps = 0; ; at++) {
    expect(steps++).toBeLessThan(10_000);
    const [op, registers] = [program.readUInt8(at * 8), program.readUInt8(at * 8 + 1)];
    const [offset, immediate] = [program.readInt16LE(at * 8 + 2), program.readInt32LE(at * 8 + 4)];
    const [to, from] = [registers & 15, registers >> 4];
    const value = r[to] as number;
    if (op === 0x61) r[to] = context[offset / 4] as number;
    else if (op === 0xbf) r[to] = r[from] as number;
    else if (op === 0xb7) r[to] = immediate;
    else if (op === 0x57) r[to] = value & immediate;
    else if (op === 0x77) r[to] = value >>> immediate;
    else if (op === 0x15) at += value === immediate ? offset : 0;
    else if (op === 0x55) at += value !== immediate ? offset : 0;
    else if (op === 0x95) return r[0] === 1;
    else throw new Error(`no such instruction: ${op}`);
  }
}

const number = fc.option(fc.integer({ min: 0, max: 2 }), { nil: undefined });
const letters = fc.subarray(['r', 'w', 'm'], { minLength: 1 }).map((list) => list.join(''));
const rule: fc.Arbitrary<DeviceRule> = fc.oneof(
  fc.record({ allow: fc.boolean(), type: fc.constant('a' as const), access: letters }),
  fc.record({
    allow: fc.boolean(),
    type: fc.constantFrom('b' as const, 'c' as const),
    major: number,
    minor: number,
    access: letters,
  }),
);
const access = fc.record({
  type: fc.constantFrom('b' as const, 'c' as const),
  major: fc.integer({ min: 0, max: 2 }),
  minor: fc.integer({ min: 0, max: 2 }),
  letters,
});

describe('deviceProgram', () => {
  it('decides as the rules mean', () => {
    fc.assert(
      fc.property(fc.array(rule, { maxLength: 8 }), access, (rules, wanted) => {
        expect(execute(deviceProgram(rules), wanted)).toBe(meaning(rules, wanted));
      }),
      { numRuns: 2000 },
    );
  });
});

describe('listWrites', () => {
  it('writes the default, then the exceptions, access of one device together', () => {
    expect(
      listWrites([
        { allow: true, type: 'c', major: 9 },
        { allow: false },
        { allow: true, type: 'c', major: 1, minor: 3, access: 'r' },
        { allow: true, type: 'c', major: 1, minor: 3, access: 'w' },
        { allow: true, type: 'b', access: 'm' },
      ]),
    ).toEqual([
      { file: 'devices.deny', line: 'a' },
      { file: 'devices.allow', line: 'c 1:3 rw' },
      { file: 'devices.allow', line: 'b *:* m' },
    ]);
  });

  it('means the same as the rules, where it takes them', () => {
    fc.assert(
      fc.property(fc.array(rule, { maxLength: 6 }), access, (rules, wanted) => {
        let writes: ReturnType<typeof listWrites>;
        try {
          writes = listWrites(rules);
        } catch (error) {
          expect(error).toMatchObject({ code: 'EUNSUPPORTED' });
          return;
        }
        const list: DeviceRule[] = writes.map(({ file, line }) => {
          const allow = file === 'devices.allow';
          if (line === 'a') return { allow };
          const [type, numbers, access] = line.split(' ') as ['b' | 'c', string, string];
          const [major, minor] = numbers.split(':').map((word) => (word === '*' ? undefined : Number(word)));
          return { allow, type, major, minor, access };
        });
        expect(meaning(list, wanted)).toBe(meaning(rules, wanted));
      }),
      { numRuns: 2000 },
    );
  });

  it('does not let a hole be lost', () => {
    const hole: DeviceRule[] = [
      { allow: true, type: 'c', major: 1 },
      { allow: false, type: 'c', major: 1, minor: 5 },
    ];
    expect(() => listWrites(hole)).toThrow(/cannot take/);
  });

  it.each([
    { allow: true, type: 'a', major: 1 },
    { allow: true, type: 'c', major: -1 },
    { allow: true, access: 'rr' },
    { allow: true, access: '' },
    { allow: 'yes' },
  ])('refuses %j', (rule) => expect(() => listWrites([rule as DeviceRule])).toThrow(TypeError));
});
