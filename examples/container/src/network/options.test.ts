import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { UsageError } from '../options.js';
import {
  checkNetworkName,
  parseAddHost,
  parseAddress,
  parseDns,
  parseExpose,
  parseHostName,
  parseMac,
  parseNetworks,
  parsePublish,
  parseRate,
} from './options.js';

describe('--network', () => {
  it('is one of the words, a container, or networks', () => {
    expect(parseNetworks([])).toEqual({ kind: 'none' });
    expect(parseNetworks(['host'])).toEqual({ kind: 'host' });
    expect(parseNetworks(['pasta'])).toEqual({ kind: 'uplink', program: 'pasta' });
    expect(parseNetworks(['container:web'])).toEqual({ kind: 'container', container: 'web' });
    expect(parseNetworks(['bridge'])).toEqual({ kind: 'networks', names: ['bridge'] });
    expect(parseNetworks(['front', 'back'])).toEqual({ kind: 'networks', names: ['front', 'back'] });
  });

  it.each([
    [['host', 'front']],
    [['front', 'none']],
    [['slirp4netns', 'front']],
    [['front', 'container:web']],
    [['a', 'a']],
    [['container:']],
    [['a b']],
    [['']],
    [['../x']],
  ])('refuses %j', (words) => {
    expect(() => parseNetworks(words)).toThrow(UsageError);
  });

  it('a network is not called none', () => {
    expect(checkNetworkName('app')).toBe('app');
    for (const name of ['none', 'host', 'pasta', '-a', 'a/b', 'x'.repeat(64)])
      expect(() => checkNetworkName(name)).toThrow(UsageError);
  });
});

describe('--publish', () => {
  const tcp = { protocol: 'tcp', host: '127.0.0.1' };
  it.each([
    ['80', [{ ...tcp, port: 80 }]],
    ['8080:80', [{ ...tcp, hostPort: 8080, port: 80 }]],
    ['8080:80/udp', [{ ...tcp, protocol: 'udp', hostPort: 8080, port: 80 }]],
    [':80', [{ ...tcp, port: 80 }]],
    ['0.0.0.0:8080:80', [{ ...tcp, host: '0.0.0.0', hostPort: 8080, port: 80 }]],
    ['192.0.2.1::80', [{ ...tcp, host: '192.0.2.1', port: 80 }]],
    ['[::]:8080:80', [{ ...tcp, host: '::', hostPort: 8080, port: 80 }]],
    ['[2001:db8::1]::80/tcp', [{ ...tcp, host: '2001:db8::1', port: 80 }]],
    [
      '8000-8001:80-81',
      [
        { ...tcp, hostPort: 8000, port: 80 },
        { ...tcp, hostPort: 8001, port: 81 },
      ],
    ],
  ])('%s', (text, ports) => {
    expect(parsePublish(text)).toEqual(ports);
  });

  it.each([
    '',
    ':',
    '0',
    '65536',
    'http',
    '80/icmp',
    '80/',
    '8080:',
    'x:80',
    '8000-8002:80-81',
    '81-80',
    '1-65535',
    'localhost:80:80',
    '::1:80:80',
    '[192.0.2.1]:80:80',
    '[::1:80:80',
    '1:2:3:4',
    '80 ',
    '1.2.3:80:80',
  ])('refuses %j', (text) => {
    expect(() => parsePublish(text)).toThrow(UsageError);
  });

  it('of any text, parses or refuses', () => {
    const parts = fc.constantFrom('80', ':', '-', '/', 'tcp', '[', ']', '::', '127.0.0.1', 'x', '8080');
    fc.assert(
      fc.property(fc.array(parts, { maxLength: 8 }), (words) => {
        try {
          for (const { port, host } of parsePublish(words.join('')))
            expect([typeof host, port > 0]).toEqual(['string', true]);
        } catch (error) {
          expect(error).toBeInstanceOf(UsageError);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('what is exposed has no port of the host', () => {
    expect(parseExpose('53/udp')).toEqual([{ host: '127.0.0.1', protocol: 'udp', port: 53 }]);
    expect(() => parseExpose('8080:80')).toThrow(UsageError);
  });
});

describe('what else belongs to a network', () => {
  it.each([
    ['10mbit', 10e6],
    ['1.5g', 1.5e9],
    ['64000', 64_000],
    ['100KBit', 1e5],
    ['1mbps', 8e6],
  ])('rate %s', (text, rate) => {
    expect(parseRate(text)).toBe(rate);
  });

  it.each(['', '0', '7', '-1', '10mb', 'fast', '2tbit', '1e9', '10 mbit', 'NaN'])('refuses the rate %j', (text) => {
    expect(() => parseRate(text)).toThrow(UsageError);
  });

  it('hosts, name servers, names, addresses', () => {
    expect(parseAddHost('db:10.0.0.1')).toEqual({ name: 'db', address: '10.0.0.1' });
    expect(parseAddHost('db=[::1]')).toEqual({ name: 'db', address: '::1' });
    expect(parseAddHost('up:host-gateway')).toEqual({ name: 'up', address: 'host-gateway' });
    for (const text of ['db', 'db:', ':1.2.3.4', 'db:x', 'a b:1.2.3.4', 'a\n:1.2.3.4'])
      expect(() => parseAddHost(text)).toThrow(UsageError);
    expect(parseDns('192.0.2.53')).toBe('192.0.2.53');
    for (const text of ['', 'dns', 'fe80::1%eth0']) expect(() => parseDns(text)).toThrow(UsageError);
    expect(parseHostName('--dns-search', 'a.example')).toBe('a.example');
    for (const text of ['', 'a b', 'a\n', '.', 'a..b', 'x'.repeat(300)])
      expect(() => parseHostName('--x', text)).toThrow(UsageError);
    expect(parseAddress('--ip', '10.0.0.9', 4)).toBe('10.0.0.9');
    for (const text of ['::1', '10.0.0', '']) expect(() => parseAddress('--ip', text, 4)).toThrow(UsageError);
    expect(parseMac('02:42:AC:11:00:02')).toBe('02:42:ac:11:00:02');
    for (const text of ['', '01:00:00:00:00:01', '00:00:00:00:00:00', '02:42:ac:11:00', 'x'])
      expect(() => parseMac(text)).toThrow(UsageError);
  });
});
