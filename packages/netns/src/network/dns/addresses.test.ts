import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { givenAddresses } from './addresses.js';

/** A message: a question for a name, and records of an answer. */
function message(name: string, records: [owner: string, type: number, ttl: number, data: Buffer][]): [Buffer, number] {
  const header = Buffer.alloc(12);
  header.writeUInt16BE(0x8180, 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(records.length, 6);
  const question = Buffer.concat([nameBytes(name), Buffer.from([0, 1, 0, 1])]);
  const answers = records.map(([owner, type, ttl, data]) => {
    const head = Buffer.alloc(10);
    head.writeUInt16BE(type, 0);
    head.writeUInt16BE(1, 2);
    head.writeUInt32BE(ttl, 4);
    head.writeUInt16BE(data.length, 8);
    return Buffer.concat([owner === name ? Buffer.from([0xc0, 12]) : nameBytes(owner), head, data]);
  });
  return [Buffer.concat([header, question, ...answers]), 12 + question.length];
}

function nameBytes(name: string): Buffer {
  const labels = name.split('.').map((label) => Buffer.from(label));
  return Buffer.concat([...labels.flatMap((label) => [Buffer.from([label.length]), label]), Buffer.alloc(1)]);
}

const [A, CNAME, AAAA] = [1, 5, 28];
const four = (...bytes: number[]) => Buffer.from(bytes);

describe('givenAddresses', () => {
  it('those of the name, of both families', () => {
    const [bytes, at] = message('www.example', [
      ['www.example', A, 300, four(192, 0, 2, 1)],
      ['www.example', AAAA, 60, Buffer.from(`20010db8${'00'.repeat(11)}01`, 'hex')],
    ]);
    expect(givenAddresses(bytes, 'www.example', at)).toEqual([
      { address: '192.0.2.1', ttl: 300 },
      { address: '2001:db8::1', ttl: 60 },
    ]);
  });

  it('of names that it leads to, for as long as the whole way counts; not of others', () => {
    const [bytes, at] = message('www.example', [
      ['cdn.test', A, 300, four(192, 0, 2, 1)],
      ['elsewhere.test', A, 300, four(192, 0, 2, 66)],
      ['www.example', CNAME, 20, nameBytes('Edge.Test')],
      ['edge.test', CNAME, 900, nameBytes('cdn.test')],
    ]);
    expect(givenAddresses(bytes, 'www.example', at)).toEqual([{ address: '192.0.2.1', ttl: 20 }]);
  });

  it('names that lead in a circle, times that are none, lengths that are wrong', () => {
    const [bytes, at] = message('www.example', [
      ['www.example', CNAME, 20, nameBytes('b.test')],
      ['b.test', CNAME, 20, nameBytes('www.example')],
      ['www.example', A, 0x80000000, four(192, 0, 2, 1)],
      ['www.example', A, 5, four(192, 0, 2)],
      ['www.example', AAAA, 5, four(192, 0, 2, 1)],
    ]);
    const given = givenAddresses(bytes, 'www.example', at);
    expect(new Set(given.map(({ address, ttl }) => `${address} ${ttl}`))).toEqual(new Set(['192.0.2.1 0']));
  });

  it('a pointer to itself, and any other nonsense, is nothing', () => {
    const [bytes, at] = message('www.example', [['www.example', A, 300, four(192, 0, 2, 1)]]);
    bytes.writeUInt16BE(0xc000 | at, at);
    expect(givenAddresses(bytes, 'www.example', at)).toEqual([]);
    const [good] = message('www.example', [
      ['www.example', CNAME, 20, nameBytes('cdn.test')],
      ['cdn.test', A, 300, four(192, 0, 2, 1)],
    ]);
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 8 }),
        fc.nat(good.length),
        (changes, cut) => {
          const broken = Buffer.from(good);
          for (const [where, value] of changes) broken[where] = value;
          for (const { address, ttl } of givenAddresses(broken.subarray(0, cut), 'www.example', at)) {
            expect(address).toMatch(/^[\d.]+$|:/);
            expect(ttl).toBeGreaterThanOrEqual(0);
          }
        },
      ),
      { numRuns: 3000 },
    );
  });
});
