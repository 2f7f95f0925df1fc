import { RecordingKernel } from '@iso/sys/testing';
import { describe, expect, it } from 'vitest';
import { Message } from './message.js';
import { NetlinkSocket } from './socket.js';

const PORT = 4242;
const EAGAIN = -11;
const code = (name: string, more: object = {}) => expect.objectContaining({ code: name, ...more });

interface Played {
  bytes: Buffer;
  /** Port of the sender; the kernel's is 0. */
  from?: number;
  /** What recvfrom returns; default the length. */
  result?: number;
}

/** A message as the kernel writes it. */
function message(
  type: number,
  body: string,
  options: { flags?: number; sequence?: number; port?: number } = {},
): Buffer {
  const payload = Buffer.from(body, 'hex');
  const bytes = Buffer.alloc(16 + payload.length);
  bytes.writeUInt32LE(bytes.length, 0);
  bytes.writeUInt16LE(type, 4);
  bytes.writeUInt16LE(options.flags ?? 0, 6);
  bytes.writeUInt32LE(options.sequence ?? 1, 8);
  bytes.writeUInt32LE(options.port ?? PORT, 12);
  payload.copy(bytes, 16);
  return bytes;
}
const acknowledgement = (sequence = 1, errno = 0) => {
  const number = Buffer.alloc(20);
  number.writeInt32LE(errno);
  return message(2, number.toString('hex'), { sequence, flags: 0x100 });
};
const done = (sequence = 1, flags = 2) => message(3, '00000000', { sequence, flags });

/** Runs something with a socket whose kernel sends what it is told. */
function withSocket<T>(
  answers: readonly (Buffer | Played)[],
  work: (socket: NetlinkSocket) => T,
): { value: T; left: number } {
  const queue = answers.map((answer) => (Buffer.isBuffer(answer) ? { bytes: answer } : answer));
  const kernel = new RecordingKernel()
    .answer('socket', 0x7ffffff0)
    .answer('sendto', (args) => Number(args[2]))
    .answer('getsockname', (args) => {
      (args[1] as Buffer).writeUInt32LE(PORT, 4);
      return 0;
    })
    .answer('recvfrom', (args) => {
      const next = queue.shift();
      if (!next) return EAGAIN;
      next.bytes.copy(args[1] as Buffer);
      (args[4] as Buffer | null)?.writeUInt32LE(next.from ?? 0, 4);
      return next.result ?? next.bytes.length;
    });
  const value = kernel.run(() => {
    const socket = NetlinkSocket.open(0);
    try {
      return work(socket);
    } finally {
      socket.close();
    }
  });
  return { value, left: queue.length };
}

const get = () => new Message('RTM_GETLINK', 18, 0x300).header(16);
const change = () => new Message('RTM_NEWLINK x', 16).header(16);

describe('NetlinkSocket', () => {
  it('takes what answers its request, from the kernel, and nothing else', () => {
    const other = [
      { bytes: acknowledgement(1, -1), from: 777 },
      acknowledgement(2, -1),
      message(2, 'ffffffff', { port: 99 }),
      message(1, ''),
      { bytes: Buffer.alloc(0), result: -4 },
    ];
    expect(withSocket([...other, acknowledgement()], (socket) => socket.request(change())).left).toBe(0);
  });

  it('says what the kernel refused, and in which attribute', () => {
    const request = new Message('RTM_NEWLINK x', 16, 0, { MTU: 4 }).header(16).u32(4, 1);
    // EINVAL, header of the request, then: words, offset 32.
    const body = `eaffffff${'00'.repeat(16)}0900010062696721000000000800020020000000`;
    const refuse = () => withSocket([message(2, body, { flags: 0x300 })], (socket) => socket.request(request));
    expect(refuse).toThrow(
      code('EINVAL', { kernelMessage: 'big! (attribute MTU)', info: { offset: 32, attribute: 'MTU' } }),
    );
  });

  it('reads a dump to its end over many datagrams, and the error that its end carries', () => {
    const parts = [
      Buffer.concat([message(16, '01000000', { flags: 2 }), message(16, '02000000', { flags: 2 })]),
      message(16, '03000000', { flags: 2 }),
    ];
    const read = (socket: NetlinkSocket) => socket.dump(get(), (reply) => reply.bytes.readUInt32LE(reply.header(4)));
    expect(withSocket([...parts, done()], read).value).toEqual([1, 2, 3]);
    expect(() => withSocket([...parts, message(3, 'f0ffffff', { flags: 2 })], read)).toThrow(code('EBUSY'));
  });

  it.each([
    ['a part', (sequence: number) => [message(16, '01000000', { flags: 0x12, sequence }), done(sequence)]],
    ['the end', (sequence: number) => [message(16, '01000000', { flags: 2, sequence }), done(sequence, 0x12)]],
  ])('reads a dump again when %s says that it was interrupted', (_, interrupted) => {
    const read = (socket: NetlinkSocket) => socket.dump(get(), (reply) => reply.bytes.readUInt32LE(reply.header(4)));
    const good = [message(16, '07000000', { flags: 2, sequence: 3 }), done(3)];
    // From the second attempt on all is read before it is looked at: to where the kernel has no more.
    const quiet = { bytes: Buffer.alloc(0), result: EAGAIN };
    expect(withSocket([...interrupted(1), ...interrupted(2), quiet, ...good], read).value).toEqual([7]);
    const always = Array.from({ length: 10 }, (_, i) => [...interrupted(i + 1), ...(i ? [quiet] : [])]).flat();
    expect(() => withSocket(always, read)).toThrow(code('EINTR', { info: { partial: [1], before: [1] } }));
  });

  it('a malformed reply is EBADMSG, and what follows is read away', () => {
    const broken = message(16, '01000000', { flags: 2 });
    broken.writeUInt32LE(99, 0);
    let left = -1;
    const queue = [broken, message(16, '01000000', { flags: 2 }), done()];
    expect(() => {
      withSocket(queue, (socket) => {
        try {
          socket.dump(get(), () => 1);
        } catch (error) {
          expect(() => socket.request(change())).toThrow(code('EAGAIN'));
          left = 0;
          throw error;
        }
      });
    }).toThrow(code('EBADMSG'));
    expect(left).toBe(0);
  });

  it('a datagram larger than the buffer is asked for again, a lost one is told of', () => {
    const large = { bytes: message(16, '01000000', { flags: 2 }), result: 40_000 };
    const read = (socket: NetlinkSocket) => socket.dump(get(), (reply) => reply.bytes.readUInt32LE(reply.header(4)));
    expect(
      withSocket(
        [
          large,
          { bytes: Buffer.alloc(0), result: EAGAIN },
          message(16, '05000000', { flags: 2, sequence: 2 }),
          done(2),
        ],
        read,
      ).value,
    ).toEqual([5]);
    expect(() => withSocket([{ bytes: Buffer.alloc(0), result: -105 }], read)).toThrow(code('ENOBUFS'));
    expect(() => withSocket([], (socket) => socket.request(change()))).toThrow(code('EAGAIN'));
  });

  it('a batch tells of each, in whatever order the answers come', () => {
    const answers = [
      acknowledgement(3),
      Buffer.concat([acknowledgement(1), acknowledgement(2, -17)]),
      acknowledgement(2, -1),
    ];
    const { value } = withSocket(answers, (socket) => socket.batch([change(), change(), change()]));
    expect(value.map((outcome) => outcome?.code)).toEqual([undefined, 'EEXIST', undefined]);
  });

  it('a transaction is refused by its first refusal, and must be acknowledged', () => {
    const three = () => [change(), change(), change(), change()];
    const run = (answers: Buffer[]) => () => withSocket(answers, (socket) => socket.transaction(three()));
    expect(run([acknowledgement(3)])).not.toThrow();
    expect(run([acknowledgement(3, -2), acknowledgement(2, -17)])).toThrow(code('EEXIST', { info: { index: 0 } }));
    expect(run([acknowledgement(1, -1), acknowledgement(3)])).toThrow(code('EPERM', { info: { index: -1 } }));
    expect(run([])).toThrow(code('EAGAIN'));
  });

  it('refuses a request from within the reading of another', () => {
    const nested = (socket: NetlinkSocket) => socket.dump(get(), () => socket.request(change()));
    expect(() => withSocket([message(16, '01000000', { flags: 2 }), done()], nested)).toThrow(/within the decoding/);
  });
});
