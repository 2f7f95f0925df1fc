import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addressesOf, parseAddresses } from './address.js';
import { Bus } from './bus.js';
import { decode, encode, lengthOf, type Message } from './wire/message.js';
import { Variant } from './wire/value.js';

const folder = mkdtempSync(join(tmpdir(), 'iso-bus-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const to = { destination: 'org.freedesktop.DBus', path: '/org/freedesktop/DBus', interface: 'org.freedesktop.DBus' };
const has = (program: string) => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;

describe.skipIf(!has('dbus-daemon') || !has('dbus-send'))('a bus [needs dbus-daemon]', () => {
  const path = `${folder}/bus`;
  let daemon: ChildProcess;
  beforeAll(async () => {
    const args = ['--session', '--nofork', '--nopidfile', '--print-address', `--address=unix:path=${path}`];
    daemon = spawn('dbus-daemon', args, { stdio: ['ignore', 'pipe', 'ignore'] });
    // The socket's file is there before anybody listens.
    if (daemon.stdout) await once(daemon.stdout, 'data');
  });
  afterAll(async () => {
    const gone = new Promise((resolve) => daemon.once('exit', resolve));
    daemon.kill();
    await gone;
  });

  it('takes this user, and answers', async () => {
    await using bus = await Bus.open({ path, direct: false }, {});
    const names = await bus.call({ ...to, member: 'ListNames' }, {});
    expect(names.signature).toBe('as');
    expect(names.body[0]).toContain('org.freedesktop.DBus');
    const user = await bus.call({ ...to, member: 'GetConnectionUnixUser', signature: 's', body: [to.destination] }, {});
    expect(user.body).toEqual([process.geteuid?.()]);
    await expect(bus.call({ ...to, member: 'NoSuchMethod' }, {})).rejects.toMatchObject({
      busName: 'org.freedesktop.DBus.Error.UnknownMethod',
      reason: 'other',
    });
    await expect(bus.call({ ...to, member: 'GetNameOwner', signature: 's', body: [1] }, {})).rejects.toThrow(TypeError);
  });

  it('passes signals of others on', async () => {
    await using bus = await Bus.open({ path, direct: false }, {});
    const heard: Message[] = [];
    let wake: () => void = () => undefined;
    const told = new Promise<void>((resolve) => {
      wake = resolve;
    });
    const unlisten = await bus.listen(
      "type='signal',interface='org.example.A'",
      (signal) => {
        heard.push(signal);
        wake();
      },
      {},
    );
    const what = ['/org/example/a', 'org.example.A.Said', 'dict:string:uint32:one,1', 'variant:objpath:/x', 'string:ß'];
    const sent = spawnSync('dbus-send', ['--session', '--type=signal', ...what], {
      env: { ...process.env, DBUS_SESSION_BUS_ADDRESS: `unix:path=${path}` },
    });
    expect(sent.status).toBe(0);
    await bus.until(told, {}, 'a signal');
    expect(heard[0]).toMatchObject({ member: 'Said', body: [[['one', 1]], new Variant('o', '/x'), 'ß'] });
    unlisten();
  });
});

describe('another side that is', () => {
  let server: Server;
  const path = `${folder}/fake`;
  const sockets = new Set<Socket>();
  let answer: (socket: Socket, text: Buffer) => void = () => undefined;
  beforeAll(async () => {
    server = createServer((socket) => {
      sockets.add(socket);
      socket.on('data', (bytes) => answer(socket, bytes)).on('error', () => undefined);
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
  });
  afterAll(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });

  /** Lets everybody in; then every message is answered as it is told. */
  const letIn = (reply: (socket: Socket, message: Message) => void) => {
    const rest = new WeakMap<Socket, Buffer>();
    answer = (socket, bytes) => {
      let all = Buffer.concat([rest.get(socket) ?? Buffer.alloc(0), bytes]);
      const lines = ['\0AUTH EXTERNAL\r\n', 'DATA\r\n', 'BEGIN\r\n'];
      for (const line of lines) {
        if (!all.subarray(0, line.length).equals(Buffer.from(line))) continue;
        all = all.subarray(line.length);
        if (line.startsWith('\0')) socket.write('DATA\r\n');
        if (line.startsWith('DATA')) socket.write(`OK ${'0'.repeat(32)}\r\n`);
      }
      for (let length = lengthOf(all); length !== undefined && length <= all.length; length = lengthOf(all)) {
        reply(socket, decode(all.subarray(0, length)));
        all = all.subarray(length);
      }
      rest.set(socket, all);
    };
  };
  const open = () => Bus.open({ path, direct: true }, { timeoutMs: 2000 });

  it('refusing', async () => {
    answer = (socket) => socket.write('REJECTED EXTERNAL\r\n');
    await expect(open()).rejects.toMatchObject({ reason: 'notDelegated', code: 'EACCES' });
  });

  it('endless in its handshake', async () => {
    answer = (socket) => socket.write('x'.repeat(10_000));
    await expect(open()).rejects.toMatchObject({ reason: 'notDelegated' });
  });

  it('silent', async () => {
    answer = () => undefined;
    await expect(Bus.open({ path, direct: true }, { timeoutMs: 50 })).rejects.toMatchObject({
      reason: 'busy',
      code: 'ETIMEDOUT',
    });
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error('enough')), 20);
    await expect(Bus.open({ path, direct: true }, { signal: controller.signal })).rejects.toThrow('enough');
    letIn(() => undefined);
    await using bus = await open();
    await expect(bus.call({ ...to, member: 'X' }, { timeoutMs: 50 })).rejects.toMatchObject({ reason: 'busy' });
  });

  it('gone in the middle', async () => {
    answer = (socket) => socket.destroy();
    await expect(open()).rejects.toMatchObject({ reason: 'notDelegated' });
    letIn((socket) => socket.destroy());
    await using bus = await open();
    await expect(bus.call({ ...to, member: 'X' }, {})).rejects.toMatchObject({ code: 'ECONNRESET' });
    await expect(bus.call({ ...to, member: 'X' }, {})).rejects.toMatchObject({ code: 'ECONNRESET' });
    await expect(bus.until(new Promise(() => undefined), {}, 'nothing')).rejects.toMatchObject({ code: 'ECONNRESET' });
  });

  it('not there', async () => {
    await expect(Bus.open({ path: `${folder}/nobody`, direct: true }, {})).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('writing byte by byte, and several messages at once', async () => {
    const back = (message: Message, more: object = {}) =>
      encode({ kind: 'return', serial: 9, replySerial: message.serial, body: [], ...more });
    letIn((socket, message) => {
      const bytes = back(message, { signature: 's', body: [message.member as string] });
      if (message.member === 'Slow') for (const byte of bytes) socket.write(Buffer.from([byte]));
      else socket.write(Buffer.concat([back({ ...message, serial: 4000 }), bytes, bytes]));
    });
    await using bus = await open();
    const answers = ['Slow', 'Twice', 'Slow'].map((member) => bus.call({ ...to, member }, {}));
    expect((await Promise.all(answers)).map(({ body }) => body[0])).toEqual(['Slow', 'Twice', 'Slow']);
  });

  it('mad: whatever it writes is an error with a code, and in time', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 16, maxLength: 300 }), async (junk) => {
        letIn((socket) => socket.end(Buffer.from(junk)));
        await using bus = await open();
        await expect(bus.call({ ...to, member: 'X' }, { timeoutMs: 2000 })).rejects.toMatchObject({
          code: expect.stringMatching(/^(EPROTO|ECONNRESET)$/),
        });
      }),
      { numRuns: 50 },
    );
  });
});

it('addresses as the specification writes them', () => {
  expect(parseAddresses('unix:path=/run/user/1000/bus')).toEqual(['/run/user/1000/bus']);
  expect(parseAddresses('tcp:host=x,port=1;unix:guid=0,path=/a%20b;unix:abstract=/tmp/x;unix:tmpdir=/tmp')).toEqual([
    '/a b',
    '\0/tmp/x',
  ]);
});

it('where no manager listens is an UnsupportedError that says where it was looked for', () => {
  expect(() => addressesOf('user', {})).toThrow(expect.objectContaining({ code: 'EUNSUPPORTED' }));
  expect(() => addressesOf('user', { XDG_RUNTIME_DIR: folder })).toThrow(/systemd\/private/);
  expect(addressesOf('user', { DBUS_SESSION_BUS_ADDRESS: `unix:path=${folder}` })).toEqual([
    { path: folder, direct: false },
  ]);
});
