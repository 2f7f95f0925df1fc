import { KernelError } from '@iso/sys';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readFlow } from '../conntrack/flow.js';
import { readElements } from '../nft/element.js';
import { type ListedSet, readChain, readRule as readNftRule, readSet, readTable } from '../nft/list.js';
import { readAddress } from '../route/addresses.js';
import { readLink } from '../route/link.js';
import { readNeighbour } from '../route/neighbours.js';
import { readRoute } from '../route/route.js';
import { readRule } from '../route/rules.js';
import { Attributes } from './attribute.js';
import { Message } from './message.js';
import { Replies } from './replies.js';

const invalid = expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' });
const malformed = expect.objectContaining({ code: 'EBADMSG' });

describe('Message', () => {
  // Bytes as strace shows them for `ip link add v0 mtu 1400 type veth peer name v1`.
  it('lays out headers, attributes and nests as the kernel wants them', () => {
    const message = new Message('x', 16, 0x600).header(16).u32(4, 1400).string(3, 'v0');
    message.nest(18, () => {
      message.string(1, 'veth');
      message.nest(2, () => message.nest(1, () => message.header(16).string(3, 'v1')));
    });
    expect(message.bytes.toString('hex')).toBe(
      [
        '60000000' + '1000' + '0106' + '00000000' + '00000000',
        '00'.repeat(16),
        '0800' + '0400' + '78050000',
        '0700' + '0300' + '763000' + '00',
        '3000' + '1280',
        '0900' + '0100' + '7665746800' + '000000',
        '2000' + '0280' + '1c00' + '0180',
        '00'.repeat(16),
        '0700' + '0300' + '763100' + '00',
      ].join(''),
    );
  });

  it.each([
    ['a byte of 256', (m: Message) => m.u8(1, 256)],
    ['a negative number', (m: Message) => m.u32(1, -1)],
    ['a fraction', (m: Message) => m.u16(1, 1.5)],
    ['NaN', (m: Message) => m.u32be(1, Number.NaN)],
    ['65 bits', (m: Message) => m.u64(1, 2n ** 64n)],
    ['an inexact 64-bit number', (m: Message) => m.u64be(1, 2 ** 60)],
    ['33 bits with a sign', (m: Message) => m.i32(1, 2 ** 31)],
    ['a NUL in a string', (m: Message) => m.string(1, 'a\0b')],
    ['an attribute above 64 KiB', (m: Message) => m.raw(1, Buffer.alloc(65532))],
    ['a nest above 64 KiB', (m: Message) => m.nest(1, () => m.raw(1, Buffer.alloc(40000)).raw(1, Buffer.alloc(40000)))],
  ])('refuses %s', (_, write) => {
    expect(() => write(new Message('x', 16))).toThrow(invalid);
  });

  it('finds the path of an attribute by its offset', () => {
    const message = new Message('x', 16, 0, { MTU: 4, LINKINFO: 18 }).header(16).u32(4, 1);
    message.nest(18, () => message.nest(2, () => message.u32(7, 1), { FLAG: 7 }), { DATA: 2 });
    message.u32(99, 1);
    expect([32, 40, 44, 48, 56].map((offset) => message.pathAt(offset))).toEqual([
      'MTU',
      'LINKINFO',
      'LINKINFO.DATA',
      'LINKINFO.DATA.FLAG',
      '99',
    ]);
    expect(message.missingName(7, 44)).toBe('LINKINFO.DATA.FLAG');
    expect(message.missingName(4)).toBe('MTU');
  });

  it('reads back what it wrote', () => {
    const entry = fc.oneof(
      fc.record({ form: fc.constant('u8' as const), value: fc.integer({ min: 0, max: 255 }) }),
      fc.record({ form: fc.constant('u16be' as const), value: fc.integer({ min: 0, max: 65535 }) }),
      fc.record({ form: fc.constant('u32' as const), value: fc.integer({ min: 0, max: 2 ** 32 - 1 }) }),
      fc.record({ form: fc.constant('u64' as const), value: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) }),
      fc.record({ form: fc.constant('string' as const), value: fc.string().filter((text) => !text.includes('\0')) }),
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.integer({ min: 0, max: 0x3fff }), entry), { size: '+2' }), (entries) => {
        const message = new Message('x', 16);
        for (const [type, { form, value }] of entries) message[form](type, value as never);
        const replies = new Replies(message.bytes);
        expect(replies.next()).toBe(true);
        const attributes = replies.attributes(0);
        for (const [type, { form, value }] of entries) {
          expect(attributes.next()).toBe(true);
          expect([attributes.type, attributes[form]()]).toEqual([type, value]);
        }
        expect(attributes.next()).toBe(false);
        expect(replies.next()).toBe(false);
      }),
    );
  });
});

describe('replies that no kernel writes', () => {
  it.each([
    ['a header of 8 bytes', '10000000' + '00000000'],
    ['a message of 8 bytes', `08000000${'00'.repeat(12)}`],
    ['a message longer than the datagram', `20000000${'00'.repeat(12)}`],
    ['a message of 4 GiB', `ffffffff${'00'.repeat(12)}`],
  ])('%s', (_, hex) => {
    expect(() => new Replies(Buffer.from(hex, 'hex')).next()).toThrow(malformed);
  });

  it.each([
    ['an attribute of 3 bytes', '03000100'],
    ['one longer than what holds it', '08000100ff'],
  ])('%s', (_, hex) => {
    expect(() => new Attributes(Buffer.from(hex, 'hex')).next()).toThrow(malformed);
  });

  it.each([
    ['u32', '06000100ffff0000'],
    ['u64', '080001000000ffff'],
    ['ip', '0900010001020304ff000000'],
  ] as const)('%s of the wrong length', (read, hex) => {
    const attributes = new Attributes(Buffer.from(hex, 'hex'));
    attributes.next();
    expect(() => attributes[read]()).toThrow(malformed);
  });

  it('wherever the bytes lie; attributes start at multiples of four of them', () => {
    const bytes = Buffer.from(`ffff1400000010000000${'00'.repeat(8)}0800040005000000`, 'hex').subarray(2);
    bytes.writeUInt32LE(24, 0);
    const replies = new Replies(bytes);
    expect(replies.next()).toBe(true);
    const attributes = replies.attributes(0);
    expect([replies.type, attributes.next(), attributes.type, attributes.u32()]).toEqual([16, true, 4, 5]);
    expect(() => attributes.walk(18, 24)).toThrow(malformed);
  });

  it('a refusal that ends inside of its request, or that says success by a positive number', () => {
    const refusal = (hex: string, flags: number) => {
      const body = Buffer.from(hex, 'hex');
      const bytes = Buffer.alloc(16 + body.length);
      bytes.writeUInt32LE(bytes.length, 0);
      bytes.writeUInt16LE(2, 4);
      bytes.writeUInt16LE(flags, 6);
      body.copy(bytes, 16);
      const replies = new Replies(bytes);
      replies.next();
      return replies.refusal();
    };
    expect(() => refusal('', 0)).toThrow(malformed);
    expect(() => refusal('05000000', 0)).toThrow(malformed);
    expect(() => refusal('ffffffff', 0x200)).toThrow(malformed);
    expect(() => refusal(`ffffffffff000000${'00'.repeat(12)}`, 0x200)).toThrow(malformed);
    expect(refusal(`ffffffffff000000${'00'.repeat(12)}070001006e6f0000`, 0x300)).toEqual({
      errno: -1,
      message: 'no',
    });
  });

  const elements = { key: ['ipv4_addr', 'inet_service'], data: 'verdict' } as ListedSet;
  const readers: [string, number, (reply: Replies) => unknown][] = [
    ['links', 16, readLink],
    ['addresses', 20, readAddress],
    ['routes', 24, readRoute],
    ['neighbours', 28, readNeighbour],
    ['rules', 32, readRule],
    ['flows', 0x100, readFlow],
    ['tables', 0xa00, readTable],
    ['chains', 0xa03, readChain],
    ['rules of nf_tables', 0xa06, readNftRule],
    ['sets', 0xa09, readSet],
    ['elements', 0xa0c, (reply) => readElements(reply, elements)],
  ];
  it.each(readers)('%s of noise: values or EBADMSG, nothing else', (_, type, read) => {
    const noise = fc.tuple(
      fc.uint8Array({ minLength: 0, maxLength: 24 }),
      // Attributes that look real, so that the noise gets further than the first length.
      fc.array(
        fc.tuple(fc.integer({ min: 0, max: 60 }), fc.uint8Array({ maxLength: 40 }), fc.integer({ min: -3, max: 3 })),
      ),
    );
    fc.assert(
      fc.property(noise, fc.integer({ min: -4, max: 4 }), ([header, attributes], lie) => {
        const parts = attributes.map(([type, payload, wrong]) => {
          const part = Buffer.alloc((4 + payload.length + 3) & ~3);
          part.writeUInt16LE(Math.max(0, 4 + payload.length + (wrong === 3 ? 1 : 0)), 0);
          part.writeUInt16LE(type, 2);
          part.set(payload, 4);
          return part;
        });
        const body = Buffer.concat([Buffer.from(header), ...parts]);
        const bytes = Buffer.alloc(16 + body.length);
        bytes.writeUInt32LE(Math.max(0, bytes.length + (lie === 4 ? 4 : 0)), 0);
        bytes.writeUInt16LE(type, 4);
        body.copy(bytes, 16);
        try {
          const replies = new Replies(bytes);
          while (replies.next()) read(replies);
        } catch (error) {
          if (!KernelError.is(error, 'EBADMSG')) throw error;
        }
      }),
      { numRuns: 2000 },
    );
  });
});
