import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Container } from '../container.js';
import { Clients } from './clients.js';
import { stopMs } from './end.js';
import { FRAME, send } from './frame.js';
import { socketFile } from './link.js';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const listen = () =>
  Clients.listen(folder, { tty: false, interactive: true, once: true }, { signal: () => {}, giveUp: () => {} });

/** What a container has of it. */
function served(clients: Clients) {
  const [stdin, stdout] = [new PassThrough(), new PassThrough()];
  clients.serve({ child: { stdin, stdout, pid: 1 } } as unknown as Container, () => {});
  return { stdin, stdout };
}

async function attached(): Promise<Socket> {
  const socket = connect(socketFile(folder));
  await once(socket, 'connect');
  return socket;
}

it('does not keep the output of what has ended for one who does not read', async () => {
  using clients = await listen();
  const socket = (await attached()).pause();
  const { stdout } = served(clients);
  await new Promise((resolve) => setTimeout(resolve, 50));
  stdout.end(Buffer.alloc(1 << 20));
  const ended = once(stdout, 'end');
  const slow = await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 100, 'slow'))]);
  expect(slow).toBe('slow');
  clients.dropSlow();
  await ended;
  socket.destroy();
});

it('ends the input with those who gave it, and not with who only looks on', async () => {
  using clients = await listen();
  const [looks, gives] = [await attached(), await attached()];
  const { stdin } = served(clients);
  const ended = once(stdin, 'finish').then(() => 'ended');
  send(gives, FRAME.input, 'x');
  await once(stdin, 'data');
  looks.destroy();
  expect(await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 50, 'open'))])).toBe('open');
  gives.destroy();
  expect(await ended).toBe('ended');
});

it('leaves the socket of its successor', async () => {
  const clients = await listen();
  clients.unlisten();
  expect(existsSync(socketFile(folder))).toBe(false);
  writeFileSync(socketFile(folder), '');
  clients[Symbol.dispose]();
  expect(existsSync(socketFile(folder))).toBe(true);
});

it('waits as long as a timer can, or for ever', () => {
  expect([stopMs(-1), stopMs(0), stopMs(2.5), stopMs(999_999_999)]).toEqual([undefined, 0, 2500, 2 ** 31 - 1]);
});
