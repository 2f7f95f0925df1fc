import { BlockList, isIPv6 } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { outside } from '../testing/judge.js';
import { familyOf, ipBytes, ipNumber, ipOf, ipText, lastOf, macBytes, macText, parsePrefix, rangeOf } from './ip.js';

describe('IP addresses', () => {
  it('are written as URL and inet_ntop write them', () => {
    fc.assert(
      fc.property(fc.ipV6(), (address) => {
        const text = ipText(ipBytes(address));
        expect(isIPv6(text)).toBe(true);
        expect(ipBytes(text)).toEqual(ipBytes(address));
        // WHATWG URL has the same shortest form, but never the dotted one.
        if (!text.includes('.')) expect(`[${text}]`).toBe(new URL(`http://[${address}]`).hostname);
      }),
    );
  });

  it('are written as libc writes them, dotted ones too', () => {
    const samples = [
      '::',
      '::1',
      '::1.2.3.4',
      '::ffff:1.2.3.4',
      '1:0:0:2::',
      '0:0:1::',
      '::1:2',
      '1::',
      'fe80::a:0:0:1',
    ];
    const program = 'print inet_ntop(AF_INET6, inet_pton(AF_INET6, $_)), "\\n" for @ARGV';
    const libc = outside(`perl -MSocket=inet_pton,inet_ntop,AF_INET6 -e '${program}' ${samples.join(' ')}`);
    expect(samples.map((sample) => ipText(ipBytes(sample)))).toEqual(libc.trim().split('\n'));
  });

  it('come back from numbers', () => {
    fc.assert(
      fc.property(fc.ipV4(), (address) => {
        expect(ipOf(ipNumber(address), 4)).toBe(address);
      }),
    );
    fc.assert(
      fc.property(fc.ipV6(), (address) => {
        expect(ipBytes(ipOf(ipNumber(address), 6))).toEqual(ipBytes(address));
      }),
    );
  });

  it('have a last one in their block', () => {
    const blocks = fc.oneof(
      fc.tuple(fc.ipV4(), fc.integer({ min: 0, max: 32 })),
      fc.tuple(fc.ipV6(), fc.integer({ min: 0, max: 128 })),
    );
    fc.assert(
      fc.property(blocks, ([address, length]) => {
        const { last, family } = rangeOf(`${address}/${length}`);
        expect(ipText(lastOf(ipBytes(address), length))).toBe(ipOf(last, family));
      }),
    );
  });

  it.each(['', '1.2.3', '1.2.3.256', '::g', 'fe80::1%eth0', '1.2.3.4 ', 'localhost'])('%j is none', (text) => {
    expect(() => familyOf(text)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
  });
});

describe('prefixes', () => {
  it('cover what BlockList says they cover', () => {
    fc.assert(
      fc.property(fc.ipV4(), fc.integer({ min: 1, max: 32 }), fc.ipV4(), (address, length, probe) => {
        const { first, last } = rangeOf(`${address}/${length}`);
        const list = new BlockList();
        list.addSubnet(address, length);
        expect(ipNumber(probe) >= first && ipNumber(probe) <= last).toBe(list.check(probe));
      }),
    );
  });

  it.each(['10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', '::/129', '10.0.0.0/-1', '10.0.0.0/1e1'])(
    '%j is none',
    (text) => {
      expect(() => parsePrefix(text)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
    },
  );
});

describe('MAC addresses', () => {
  it('come back', () => {
    expect(macText(macBytes('02:00:5E:10:00:ff'))).toBe('02:00:5e:10:00:ff');
    for (const text of ['02:00:5e:10:00', '02-00-5e-10-00-ff', '02:00:5e:10:00:fg'])
      expect(() => macBytes(text)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
  });
});
