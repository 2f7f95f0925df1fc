import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ipNumber, rangeOf } from '../ip/ip.js';
import { freeSubnet, overlap, Pool } from './pool.js';

const code = (name: string) => expect.objectContaining({ code: name });

describe('Pool', () => {
  it('gives out every address once, but network, broadcast and gateway', () => {
    const pool = new Pool({ subnet: '10.0.0.0/29' });
    const all = Array.from({ length: 5 }, () => pool.take());
    expect(all).toEqual(['10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.0.5', '10.0.0.6']);
    expect(() => pool.take()).toThrow(code('EADDRNOTAVAIL'));
    pool.release('10.0.0.4');
    expect(pool.take()).toBe('10.0.0.4');
  });

  it('gives what came back last of all', () => {
    const pool = new Pool({ subnet: '10.0.0.0/29' });
    const first = pool.take();
    pool.release(first);
    expect([pool.take(), pool.take(), pool.take(), pool.take(), pool.take()].at(-1)).toBe(first);
  });

  it('keeps to a range, and takes what is asked for outside of it', () => {
    const pool = new Pool({ subnet: '10.0.0.0/24', range: '10.0.0.128/30', gateway: '10.0.0.129' });
    expect([pool.take(), pool.take(), pool.take()]).toEqual(['10.0.0.128', '10.0.0.130', '10.0.0.131']);
    expect(pool.claim('10.0.0.5')).toBe('10.0.0.5');
    for (const address of ['10.0.0.5', '10.0.0.128', '10.0.0.0', '10.0.0.255', '10.0.0.129'])
      expect(() => pool.claim(address), address).toThrow(code('EADDRINUSE'));
    for (const address of ['10.0.1.5', 'fd00::1', 'x', '10.0.0.5/24'])
      expect(() => pool.claim(address), address).toThrow(code('ERR_INVALID_ARG_VALUE'));
  });

  it('has IPv6 subnets as large as they come', () => {
    const pool = new Pool({ subnet: 'fd00:50::/64' });
    expect([pool.gateway, pool.take(), pool.take()]).toEqual(['fd00:50::1', 'fd00:50::2', 'fd00:50::3']);
  });

  it.each([
    ['a malformed subnet', { subnet: '10.0.0/24' }],
    ['one without room', { subnet: '10.0.0.0/31' }],
    ['a range outside', { subnet: '10.0.0.0/24', range: '10.0.1.0/25' }],
    ['a gateway outside', { subnet: '10.0.0.0/24', gateway: '10.0.1.1' }],
  ])('refuses %s', (_, options) => {
    expect(() => new Pool(options)).toThrow(code('ERR_INVALID_ARG_VALUE'));
  });

  it('never gives an address twice, whatever is taken and released', () => {
    const step = fc.oneof(fc.constant('take' as const), fc.nat({ max: 30 }));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const pool = new Pool({ subnet: '10.0.0.0/27' });
        const { first, last } = rangeOf('10.0.0.0/27');
        const held: string[] = [];
        for (const each of steps) {
          if (each === 'take') {
            if (held.length === 29) expect(() => pool.take()).toThrow(code('EADDRNOTAVAIL'));
            else {
              const address = pool.take();
              expect(held).not.toContain(address);
              expect(ipNumber(address) > first && ipNumber(address) < last && address !== pool.gateway).toBe(true);
              held.push(address);
            }
          } else {
            const [given] = held.splice(each % (held.length || 1), 1);
            if (given) pool.release(given);
          }
        }
        expect(pool.taken).toBe(held.length);
      }),
    );
  });
});

describe('subnets', () => {
  it('overlap as they should', () => {
    expect(overlap('10.0.0.0/8', '10.5.0.0/16')).toBe(true);
    expect(overlap('10.5.0.0/16', '10.0.0.0/8')).toBe(true);
    expect(overlap('10.0.0.0/24', '10.0.1.0/24')).toBe(false);
    expect(overlap('10.0.0.0/24', 'fd00::/8')).toBe(false);
  });

  it('free ones are found, until there are none', () => {
    expect(freeSubnet([])).toBe('172.17.0.0/16');
    expect(freeSubnet(['172.16.0.0/14'])).toBe('172.20.0.0/16');
    expect(freeSubnet(['172.16.0.0/12'])).toBe('192.168.0.0/20');
    expect(() => freeSubnet(['172.16.0.0/12', '192.168.0.0/16'])).toThrow(code('EADDRNOTAVAIL'));
  });
});
