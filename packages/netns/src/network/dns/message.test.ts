import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { answers, RCODE, readQuery, reverseAddress, TYPE, writeAnswer } from './message.js';

/** A query in hexadecimal digits, as any client writes it. */
function query(name: string, type: number, options: { edns?: number; flags?: number } = {}): Buffer {
  const labels = name === '' ? [] : name.split('.');
  const parts = labels.map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label, 'latin1')]));
  const head = Buffer.from('123401000001000000000000', 'hex');
  head.writeUInt16BE(options.flags ?? 0x0100, 2);
  head.writeUInt16BE(options.edns === undefined ? 0 : 1, 10);
  const tail = Buffer.alloc(5);
  tail.writeUInt16BE(type, 1);
  tail.writeUInt16BE(1, 3);
  const opt = Buffer.alloc(options.edns === undefined ? 0 : 11);
  if (options.edns !== undefined) {
    opt.writeUInt16BE(TYPE.OPT, 1);
    opt.writeUInt16BE(options.edns, 3);
  }
  return Buffer.concat([head, ...parts, tail, opt]);
}

describe('DNS messages', () => {
  it('are read', () => {
    expect(readQuery(query('WeB.Example', TYPE.A))).toEqual({
      id: 0x1234,
      plain: true,
      name: 'web.example',
      type: TYPE.A,
      end: 29,
      size: 512,
      edns: false,
    });
    expect(readQuery(query('a', TYPE.AAAA, { edns: 1232 }))).toMatchObject({ size: 1232, edns: true });
    expect(readQuery(query('a', TYPE.AAAA, { edns: 65535 }))?.size).toBe(4096);
    expect(readQuery(query('', 2))).toMatchObject({ name: '', plain: true });
    expect(readQuery(query('a', TYPE.A, { flags: 0x2800 }))?.plain).toBe(false);
  });

  it.each([
    ['an answer', query('a', 1, { flags: 0x8180 })],
    ['a header cut short', query('a', 1).subarray(0, 11)],
    ['a question cut short', query('a', 1).subarray(0, -1)],
    ['a label that is a pointer', Buffer.concat([query('a', 1).subarray(0, 12), Buffer.from('c00c00010001', 'hex')])],
    ['a label beyond the end', Buffer.concat([query('a', 1).subarray(0, 12), Buffer.from('3f61', 'hex')])],
    ['no question', Buffer.from('123401000000000000000000', 'hex')],
  ])('%s is no query', (_, bytes) => {
    expect(readQuery(bytes)).toBeUndefined();
  });

  it('are answered: the question as it came, records, or the mark that it was cut', () => {
    const bytes = query('WeB', TYPE.A, { edns: 1232 });
    const asked = readQuery(bytes) as NonNullable<ReturnType<typeof readQuery>>;
    const record = { type: TYPE.A, address: '10.50.0.2' } as const;
    const answer = writeAnswer(bytes, asked, RCODE.NOERROR, [record], 1232);
    expect(answer.toString('hex')).toBe(
      [
        '1234' + '8580' + '0001' + '0001' + '0000' + '0001',
        '03576542' + '00' + '0001' + '0001',
        'c00c' + '0001' + '0001' + '00000000' + '0004' + '0a320002',
        '00' + '0029' + '1000' + '00000000' + '0000',
      ].join(''),
    );
    expect(answers(answer, bytes, asked.end)).toBe(true);
    const many = writeAnswer(bytes, asked, RCODE.NOERROR, Array(40).fill(record), 512);
    expect(many.length).toBeLessThanOrEqual(512);
    expect(many.readUInt16BE(2) & 0x0200).toBe(0x0200);
    expect(many.readUInt16BE(6)).toBe(0);
  });

  it('that answer something else are told from those that answer', () => {
    const bytes = query('web', TYPE.A);
    const end = readQuery(bytes)?.end as number;
    const answer = (other: Buffer) => {
      const copy = Buffer.from(other);
      copy.writeUInt16BE(0x8180, 2);
      return copy;
    };
    expect(answers(answer(bytes), bytes, end)).toBe(true);
    expect(answers(bytes, bytes, end)).toBe(false);
    expect(answers(answer(query('wEb', TYPE.A)), bytes, end)).toBe(false);
    expect(answers(answer(query('web', TYPE.AAAA)), bytes, end)).toBe(false);
    const otherId = answer(bytes);
    otherId[0] = 0xff;
    expect(answers(otherId, bytes, end)).toBe(false);
    expect(answers(Buffer.alloc(3), bytes, end)).toBe(false);
  });

  it('of noise: read as a query or not, answered without an error', () => {
    const noise = fc.oneof(
      fc.uint8Array({ maxLength: 600 }),
      fc.uint8Array({ maxLength: 40 }).map((tail) => Buffer.concat([query('a.b', 1).subarray(0, 12), tail])),
    );
    fc.assert(
      fc.property(noise, (raw) => {
        const bytes = Buffer.from(raw);
        const asked = readQuery(bytes);
        if (!asked) return;
        const answer = writeAnswer(bytes, asked, RCODE.NXDOMAIN, [], asked.size);
        expect(answer.length).toBeGreaterThanOrEqual(12);
        expect(answer.readUInt16BE(0)).toBe(asked.id);
      }),
      { numRuns: 5000 },
    );
  });

  it('reverse names', () => {
    expect(reverseAddress('2.0.50.10.in-addr.arpa')).toBe('10.50.0.2');
    expect(reverseAddress(`2.${'0.'.repeat(23)}0.5.0.0.0.0.d.f.ip6.arpa`)).toBe(
      'fd00:0050:0000:0000:0000:0000:0000:0002',
    );
    for (const name of ['in-addr.arpa', '1.2.3.in-addr.arpa', 'x.ip6.arpa', 'web'])
      expect(reverseAddress(name)).toBeUndefined();
  });
});
