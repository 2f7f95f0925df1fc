import { exec, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readlinkSync } from 'node:fs';
import { createServer as createHttpServer, request } from 'node:http';
import { type AddressInfo, createConnection } from 'node:net';
import { text } from 'node:stream/consumers';
import { attempt, kernel, replaceKernel } from '@iso/sys';
import { describe, expect, it } from 'vitest';
import { fromSources } from '../../../../test/typescript.js';
import { NetNS } from '../index.js';
import { inside, outside, root } from '../testing/judge.js';

const refused = (port: number) =>
  new Promise<string>((resolve) => {
    const socket = createConnection({ host: '127.0.0.1', port });
    socket
      .on('connect', () => resolve('connected'))
      .on('error', (error: NodeJS.ErrnoException) => resolve(String(error.code)));
    socket.on('connect', () => socket.destroy());
  });

describe.skipIf(!root)('Node’s own objects inside [needs root]', () => {
  it('a server is reached from inside and from nowhere else', async () => {
    using lab = NetNS.create();
    const server = lab.listen({ port: 0 }, (socket) => socket.end('hello from inside'));
    await once(server, 'listening');
    const { port, address } = server.address() as AddressInfo;
    expect(address).toBe('::');
    const judge = `python3 -c "import socket; s = socket.create_connection(('127.0.0.1', ${port})); print(s.recv(99).decode())"`;
    const answer = new Promise<string>((resolve, reject) => {
      exec(`nsenter --net=/proc/${process.pid}/fd/${lab.fd.number} ${judge}`, (error, out) =>
        error ? reject(error) : resolve(out.trim()),
      );
    });
    expect(await answer).toBe('hello from inside');
    expect(await refused(port)).toBe('ECONNREFUSED');
    expect(inside(lab, 'ss -Hltn')).toContain(`:${port} `);
    server.close();
    await once(server, 'close');
  });

  it('sockets connect inside, also from a chosen address; refusals come as ever', async () => {
    using lab = NetNS.create();
    lab.rtnl.addresses.create({ link: 'lo', address: '10.3.3.3/32' });
    const server = lab.listen({ port: 7000, host: '127.0.0.1' }, (socket) => socket.end(`${socket.remoteAddress}`));
    const socket = lab.connect({ port: 7000, localAddress: '10.3.3.3' });
    expect(await text(socket)).toBe('10.3.3.3');
    const [error] = (await once(lab.connect({ port: 7001 }), 'error')) as [NodeJS.ErrnoException];
    expect(error.code).toBe('ECONNREFUSED');
    const six = lab.listen({ port: 7002, host: '::1', ipv6Only: true }, (peer) => peer.end('six'));
    expect(await text(lab.connect({ host: '::1', port: 7002 }))).toBe('six');
    const controller = new AbortController();
    const aborted = lab.connect({ port: 7000, signal: controller.signal });
    controller.abort();
    expect(((await once(aborted, 'error')) as Error[])[0]?.name).toBe('AbortError');
    for (const each of [server, six]) {
      each.close();
      await once(each, 'close');
    }
  });

  it('hundreds of sockets that are asked for at once are made by few children; one that is refused is no other’s fault', async () => {
    using lab = NetNS.create();
    const real = kernel();
    let launches = 0;
    const undo = replaceKernel({
      call: (name, args) => real.call(name, args),
      launch: (plan) => {
        launches += 1;
        return real.launch(plan);
      },
    });
    const [INET, STREAM] = [2, 1];
    try {
      const asked = Array.from({ length: 200 }, (_, i) => lab.socketAsync(INET, i === 40 ? 77 : STREAM));
      const outcomes = await Promise.allSettled(asked);
      const made = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
      expect(new Set(made.map((fd) => fd.number)).size).toBe(199);
      for (const fd of made) {
        const address = Buffer.from([INET, 0, 0, 80, 127, 0, 0, 1, ...Buffer.alloc(8)]);
        // Nobody listens in there.
        expect(attempt('connect', fd, address, address.length)).toBe(-111);
        fd.close();
      }
      expect(outcomes[40]).toMatchObject({ status: 'rejected', reason: { code: 'EINVAL', syscall: 'socket' } });
      // One for the first, one for each 32, and those of the refused one's neighbours one by one.
      expect(launches).toBeLessThan(45);
    } finally {
      undo();
    }
    const late = lab.socketAsync(INET, STREAM);
    lab.close();
    (await late).close();
    await expect(lab.socketAsync(INET, STREAM)).rejects.toThrow(expect.objectContaining({ code: 'ERR_INVALID_STATE' }));
  });

  it('datagrams go and come inside', async () => {
    using lab = NetNS.create();
    const server = lab.datagram({ host: '127.0.0.1', port: 5353 });
    server.on('message', (message, peer) => server.send(`re: ${message}`, peer.port, peer.address));
    const client = lab.datagram();
    client.send('hello', 5353, '127.0.0.1');
    const [message] = (await once(client, 'message')) as [Buffer];
    expect(message.toString()).toBe('re: hello');
    expect(inside(lab, 'ss -Hlun')).toContain('127.0.0.1:5353');
    expect(outside('ss -Hlun')).not.toContain('127.0.0.1:5353');
    await expect(
      new Promise((resolve, reject) =>
        client.send('x', 5353, 'localhost', (error) => (error ? reject(error) : resolve(0))),
      ),
    ).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
    for (const each of [server, client]) {
      each.close();
      await once(each, 'close');
    }
  });

  it('http agent and fetch', async () => {
    using lab = NetNS.create();
    const web = createHttpServer(async (message, response) => {
      response.setHeader('x-from', 'inside');
      response.end(`${message.method} ${message.url} ${await text(message)}`);
    });
    const server = lab.listen({ port: 8080 }, (socket) => web.emit('connection', socket));
    const agent = lab.agent({ keepAlive: true });
    for (let i = 0; i < 2; i++) {
      const response = await new Promise<import('node:http').IncomingMessage>((resolve, reject) =>
        request('http://127.0.0.1:8080/a', { agent }, resolve).on('error', reject).end(),
      );
      expect(await text(response)).toBe('GET /a ');
    }
    agent.destroy();
    const posted = await lab.fetch('http://[::1]:8080/b?c', { method: 'POST', body: 'body' });
    expect([posted.status, posted.headers.get('x-from'), await posted.text()]).toEqual([
      200,
      'inside',
      'POST /b?c body',
    ]);
    await expect(lab.fetch('http://127.0.0.1:8081/')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await expect(lab.fetch('http://localhost:8080/')).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
    await expect(lab.fetch('ftp://127.0.0.1/')).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
    web.closeAllConnections();
    server.close();
    await once(server, 'close');
  });

  it('a taken port, a foreign address, a bad port and a name are refused, with nothing left open', async () => {
    using lab = NetNS.create();
    const server = lab.listen({ port: 9000, host: '127.0.0.1' });
    expect(() => lab.listen({ port: 9000, host: '127.0.0.1' })).toThrow(
      expect.objectContaining({ code: 'EADDRINUSE' }),
    );
    expect(() => lab.listen({ host: '192.0.2.1' })).toThrow(expect.objectContaining({ code: 'EADDRNOTAVAIL' }));
    expect(() => lab.connect({ port: 1, localAddress: '192.0.2.1' })).toThrow(
      expect.objectContaining({ code: 'EADDRNOTAVAIL' }),
    );
    for (const bad of [{ port: 65536 }, { port: -1 }, { port: 1.5 }, { host: 'localhost' }])
      expect(() => lab.listen(bad)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
    expect(() => lab.connect({ host: 'localhost', port: 1 })).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
    );
    server.close();
    await once(server, 'close');
  });

  it('libuv’s pool, started after all of this, is outside', () => {
    const script = `
      import { NetNS } from '@iso/netns';
      import { readdirSync, readlinkSync } from 'node:fs';
      import { stat } from 'node:fs/promises';
      const lab = NetNS.create();
      const server = lab.listen({ port: 80 });
      lab.datagram().close();
      lab.rtnl.links.list();
      await stat('/');
      server.close();
      lab.close();
      const seen = new Set(readdirSync('/proc/self/task').map((id) => readlinkSync('/proc/self/task/' + id + '/ns/net')));
      console.log([...seen].join(' '));`;
    const node = [...fromSources, '--input-type=module', '-e', script];
    const out = execFileSync(process.execPath, node, {
      cwd: new URL('../../../..', import.meta.url),
      encoding: 'utf8',
    });
    expect(out.trim()).toBe(readlinkSync('/proc/self/ns/net'));
  });
});
