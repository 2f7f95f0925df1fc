import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CgroupError } from '../../error.js';
import { decode, encode, lengthOf, type Message } from './message.js';
import { Reader } from './read.js';
import { parseSignature } from './signature.js';
import { type Value, Variant } from './value.js';
import { Writer } from './write.js';

/** As `dbus-send` (libdbus 1.14) sent it, with a value of every type, and `dbus-monitor --binary` recorded it. */
const recorded = Buffer.from(
  '6c040101a4000000020000007500000001016f000e0000002f6f72672f6578616d706c652f610000020173000d0000006f72672e6578616d' +
    '706c652e41000000030173000a00000045766572797468696e67000000000000080167001579626e716975787464736f7661736178617b73' +
    '757d00000000000007017300040000003a312e31000000000700000001000000fefffffffdffffff00286bee00000000fbffffffffffffff' +
    'ffffffffffffffff000000000000f83f070000006772c3bcc39f6500040000002f612f620001730005000000696e6e65720000000f000000' +
    '010000006100000002000000626300001000000000000000010000000000000002000000000000001c00000000000000030000006f6e6500' +
    '01000000000000000300000074776f0002000000',
  'hex',
);
const recordedBody: Value[] = [
  7,
  true,
  -2,
  65_535,
  -3,
  4_000_000_000,
  -5n,
  18_446_744_073_709_551_615n,
  1.5,
  'grüße',
  '/a/b',
  new Variant('s', 'inner'),
  ['a', 'bc'],
  [1n, 2n],
  [
    ['one', 1],
    ['two', 2],
  ],
];

const isProtocolError = (error: unknown) => CgroupError.is(error, 'EPROTO');
const write = (signature: string, values: Value[]) => {
  const writer = new Writer();
  writer.all(signature, values);
  return writer.bytes.toString('hex');
};
const read = (signature: string, hex: string, little = true) =>
  new Reader(Buffer.from(hex, 'hex'), little).all(signature);

describe('messages', () => {
  it('reads what libdbus wrote', () => {
    expect(lengthOf(recorded)).toBe(recorded.length);
    expect(decode(recorded)).toEqual({
      kind: 'signal',
      serial: 2,
      path: '/org/example/a',
      interface: 'org.example.A',
      member: 'Everything',
      signature: 'ybnqiuxtdsovasaxa{su}',
      sender: ':1.1',
      body: recordedBody,
    });
  });

  it('writes the bytes that libdbus wrote', () => {
    const { signature = '', body } = decode(recorded);
    const bytes = write(signature, [...body]);
    expect(recorded.toString('hex').endsWith(bytes)).toBe(true);
    expect(bytes).toHaveLength(2 * recorded.readUInt32LE(4));
  });

  it('writes what it reads', () => {
    const message: Message = {
      kind: 'call',
      serial: 7,
      path: '/org/freedesktop/systemd1',
      interface: 'org.freedesktop.systemd1.Manager',
      member: 'StartTransientUnit',
      destination: 'org.freedesktop.systemd1',
      signature: 'ssa(sv)a(sa(sv))',
      body: [
        'a.scope',
        'fail',
        [
          ['PIDs', new Variant('au', [1, 2])],
          ['Delegate', new Variant('b', true)],
        ],
        [],
      ],
    };
    expect(decode(encode(message))).toEqual(message);
  });

  it('needs sixteen bytes to tell a length, and refuses one without end', () => {
    expect(lengthOf(recorded.subarray(0, 15))).toBeUndefined();
    const huge = Buffer.from(recorded);
    huge.writeUInt32LE(0x7fffffff, 4);
    expect(() => lengthOf(huge)).toThrow(expect.objectContaining({ code: 'EPROTO' }));
  });

  it('whatever is changed in a message, it is a message or EPROTO', () => {
    const change = fc.record({ at: fc.nat(recorded.length - 1), byte: fc.nat(255) });
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
        const bytes = Buffer.from(recorded);
        for (const { at, byte } of changes) bytes[at] = byte;
        try {
          expect(decode(bytes).serial).toBeGreaterThan(0);
        } catch (error) {
          return isProtocolError(error);
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('whatever bytes there are, they are values or EPROTO', () => {
    const signature = fc.constantFrom(
      'v',
      'av',
      'a{sv}',
      'a(sv)',
      'ss',
      'ay',
      'aas',
      'g',
      'o',
      'b',
      '(ybnv)',
      'aaaaav',
    );
    fc.assert(
      fc.property(signature, fc.uint8Array({ maxLength: 200 }), fc.boolean(), (types, bytes, little) => {
        try {
          new Reader(Buffer.from(bytes), little).all(types);
        } catch (error) {
          return isProtocolError(error);
        }
      }),
      { numRuns: 1000 },
    );
  });
});

describe('values', () => {
  it('of either byte order, as the specification has them', () => {
    expect(read('s', '00000003666f6f00', false)).toEqual(['foo']);
    expect(read('s', '03000000666f6f00')).toEqual(['foo']);
    // An array of one 64-bit number: its length does not count the four bytes that fill up.
    expect(read('ax', '00000008000000000000000000000005', false)).toEqual([[5n]]);
    expect(write('ax', [[5n]])).toBe('08000000000000000500000000000000');
    expect(
      read('nqiuxtd', 'fffefffffffffffdfffffffe00000000fffffffffffffffbfffffffffffffff93ff8000000000000', false),
    ).toEqual([-2, 65_535, -3, 4_294_967_294, -5n, 18_446_744_073_709_551_609n, 1.5]);
  });

  it('come back as they were', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'ß', '😀', ' ', '\n', '\ufeff'), maxLength: 12 });
    const values = fc.tuple(
      fc.nat(255),
      fc.boolean(),
      fc.integer({ min: -32_768, max: 32_767 }),
      fc.nat(4_294_967_295),
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      fc.double({ noNaN: true }),
      text,
      fc.array(fc.tuple(text, fc.array(fc.nat(65_535), { maxLength: 4 })), { maxLength: 4 }),
      fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes)),
      text.map((one) => new Variant('(sv)', [one, new Variant('u', 1)])),
    );
    fc.assert(
      fc.property(values, (list) => {
        const types = 'ybnuxtdsa{saq}ayv';
        return isDeepStrictEqual(read(types, write(types, list as Value[])), list);
      }),
      { numRuns: 50, endOnFailure: true },
    );
  });

  it.each([
    ['y', 256],
    ['n', 32_768],
    ['u', -1],
    ['t', -1n],
    ['t', 2n ** 64n],
    ['i', 1.5],
    ['u', Number.NaN],
    ['b', 1],
    ['d', '1'],
    ['s', 'a\0b'],
    ['s', '\ud800'],
    ['s', 1],
    ['o', 'a/b'],
    ['o', '/a/'],
    ['v', 1],
    ['v', new Variant('ss', ['a', 'b'])],
    ['as', 'text'],
    ['(ss)', ['one']],
    ['a{sv}', [['key']]],
  ] as [string, Value][])('no %s: %s', (signature, value) => {
    expect(() => write(signature, [value])).toThrow(TypeError);
  });

  it.each([
    ['b', '02000000', 'a boolean of two'],
    ['s', '03000000666f6f', 'no NUL'],
    ['s', '0300000066006f00', 'a NUL inside'],
    ['s', '02000000c32800', 'no UTF-8'],
    ['s', 'ffffffff', 'longer than the message'],
    ['o', '01000000610000', 'no path'],
    ['g', '017a00', 'no signature'],
    ['v', '0273730000000000', 'a variant of two'],
    ['yu', '0101000001000000', 'padding that is not zero'],
    ['au', '0500000001000000ff', 'half an element'],
    ['au', '00000010', 'an array after the end'],
    ['as', 'ffffff7f', 'an array without end'],
  ])('not %s: %s (%s)', (signature, hex) => {
    expect(() => read(signature, hex)).toThrow(expect.objectContaining({ code: 'EPROTO' }));
  });

  it('a variant in a variant in a variant … ends', () => {
    const deep = `${'017600'.repeat(100)}017900${'01'}`;
    expect(() => read('v', deep)).toThrow(expect.objectContaining({ code: 'EPROTO' }));
  });
});

it.each([
  'z',
  'a',
  '(',
  '()',
  '(s',
  's)',
  'a{',
  'a{s}',
  'a{sss}',
  'a{vs}',
  'a{(s)s}',
  '{ss}',
  `${'a'.repeat(33)}s`,
  '('.repeat(33),
  's'.repeat(256),
])('no signature: %s', (signature) => {
  expect(() => parseSignature(signature)).toThrow(expect.objectContaining({ code: 'EPROTO' }));
});
