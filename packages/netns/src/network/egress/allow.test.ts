import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { matchesName, parseAllowed } from './allow.js';

const both = ['tcp', 'udp'];

describe('parseAllowed', () => {
  it.each([
    ['192.0.2.1', { kind: 'addresses', family: 4, prefix: '192.0.2.1', ports: undefined }],
    ['192.0.2.0/24', { kind: 'addresses', family: 4, prefix: '192.0.2.0/24', ports: undefined }],
    ['192.0.2.0/24:443/tcp', { prefix: '192.0.2.0/24', ports: { protocols: ['tcp'], from: 443, to: 443 } }],
    ['192.0.2.1:8000-8010', { prefix: '192.0.2.1', ports: { protocols: both, from: 8000, to: 8010 } }],
    ['2001:db8::/32', { family: 6, prefix: '2001:db8::/32', ports: undefined }],
    ['[2001:db8::/32]:53/udp', { family: 6, prefix: '2001:db8::/32', ports: { protocols: ['udp'], from: 53, to: 53 } }],
    ['[2001:db8::1]', { family: 6, prefix: '2001:db8::1', ports: undefined }],
    ['0.0.0.0/0', { family: 4, prefix: '0.0.0.0/0' }],
    ['Registry.Example.', { kind: 'name', name: 'registry.example', below: false, ports: undefined }],
    [
      '*.example.org:443',
      { kind: 'name', name: 'example.org', below: true, ports: { protocols: both, from: 443, to: 443 } },
    ],
    ['localhost:1/udp', { kind: 'name', name: 'localhost', ports: { protocols: ['udp'], from: 1, to: 1 } }],
  ])('%s', (text, parts) => {
    expect(parseAllowed(text)).toMatchObject(parts);
  });

  it.each([
    '',
    '*',
    '*.',
    '.example',
    'a..b',
    '-a.example',
    'a-.example',
    'a b',
    'exa*mple.org',
    '192.0.2',
    '192.0.2.256',
    '192.0.2.1/33',
    '192.0.2.1/24',
    '192.0.2.1:0',
    '192.0.2.1:65536',
    '192.0.2.1:9-8',
    '192.0.2.1:',
    '192.0.2.1/tcp',
    'a.example/udp',
    'a.example:http',
    'a.example:1-2',
    '2001:db8::/129',
    '[2001:db8::1',
    '[2001:db8::1]:x',
    '[]:1',
    '[a.example]:1',
    '2001:db8::1:443:x',
    `${'a'.repeat(64)}.example`,
    `${'a.'.repeat(127)}example`,
    'a\nb.example',
  ])('refuses %j', (text) => {
    expect(() => parseAllowed(text)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
  });

  it('is read or refused, whatever it is', () => {
    const words = ['192.0.2.1', '2001:db8::', 'a.example', '*.', '[', ']', ':', '/', '-', '24', '443', 'tcp', '.', ' '];
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(fc.constantFrom(...words)).map((list) => list.join('')),
        ),
        (text) => {
          try {
            expect(['addresses', 'name']).toContain(parseAllowed(text).kind);
          } catch (error) {
            expect(error).toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
          }
        },
      ),
      { numRuns: 3000 },
    );
  });

  it('a name is itself, what begins with `*.` what is below', () => {
    const matches = (text: string, name: string) => {
      const allowed = parseAllowed(text);
      return allowed.kind === 'name' && matchesName(allowed, name);
    };
    expect([
      matches('a.example', 'a.example'),
      matches('a.example', 'b.a.example'),
      matches('a.example', 'ba.example'),
      matches('*.example', 'a.example'),
      matches('*.example', 'b.a.example'),
      matches('*.example', 'example'),
      matches('*.example', 'anexample'),
    ]).toEqual([true, false, false, true, true, false, false]);
  });
});
