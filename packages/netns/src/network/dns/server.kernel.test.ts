import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NetNS } from '../../index.js';
import { root } from '../../testing/judge.js';
import { BridgeNetwork, NameServer } from '../index.js';

const run = promisify(execFile);
const code = (name: string) => expect.objectContaining({ code: name });

/** What glibc's resolver finds inside, with a resolv.conf of its own in a mount namespace of its own. */
async function resolve(ns: NetNS, conf: string, command: string): Promise<string> {
  const script = `mount -t tmpfs t /mnt && printf '%s' "$1" > /mnt/r && mount --bind /mnt/r /etc/resolv.conf
    printf 'hosts: dns\\n' > /mnt/n && mount --bind /mnt/n /etc/nsswitch.conf && ${command}`;
  const args = [`--net=/proc/${process.pid}/fd/${ns.fd.number}`, 'unshare', '-m', 'sh', '-c', script, 'sh', conf];
  try {
    return (await run('nsenter', args)).stdout.trim();
  } catch (error) {
    return `failed ${(error as { code: number }).code}`;
  }
}

describe.skipIf(!root)('NameServer [needs root]', () => {
  let host: NetNS;
  let box: NetNS;
  let other: NetNS;
  let network: BridgeNetwork;
  beforeEach(async () => {
    [host, box, other] = [NetNS.create(), NetNS.create(), NetNS.create()];
    network = BridgeNetwork.create({ name: 'app', host, subnets: ['10.50.0.0/24', 'fd00:50::/64'] });
    await network.attach(box, { names: ['web', 'www'] });
  });
  afterEach(() => {
    network.close();
    for (const ns of [host, box, other]) ns.close();
  });

  it('answers glibc by names and aliases, in any case, both families, backwards, as it is now', async () => {
    await using names = await NameServer.start({
      netns: box,
      networks: [network],
      hosts: { 'host.internal': ['10.50.0.1'] },
    });
    const conf = names.resolvConf({ options: ['timeout:3'] });
    const ask = (name: string) => resolve(box, conf, `getent ahosts ${name} | awk '{print $1}' | sort -u`);
    expect(await ask('web')).toBe('10.50.0.2\nfd00:50::2');
    expect(await ask('WWW')).toBe('10.50.0.2\nfd00:50::2');
    expect(await ask('host.internal')).toBe('10.50.0.1');
    expect(await ask('db')).toBe('');
    const endpoint = await network.attach(other, { names: ['db'] });
    expect(await ask('db')).toBe('10.50.0.3\nfd00:50::3');
    expect(await resolve(box, conf, "getent hosts 10.50.0.3 | awk '{print $2}'")).toBe('db');
    expect(await resolve(box, conf, "getent hosts fd00:50::2 | awk '{print $2}'")).toBe('web');
    await endpoint.detach();
    expect(await ask('db')).toBe('');
    expect(names.resolvConf({ search: ['app.local'] })).toBe('nameserver 127.0.0.11\nsearch app.local\n');
    expect(() => names.resolvConf({ search: ['a\nnameserver 1.2.3.4'] })).toThrow(code('ERR_INVALID_ARG_VALUE'));
  });

  it('passes on what it does not know, from elsewhere; not for internal networks; not what was forged', async () => {
    const upstream = host.datagram({ host: '127.0.0.1', port: 53 });
    let asked = 0;
    upstream.on('message', (bytes, peer) => {
      asked += 1;
      const end = bytes.indexOf(0, 12) + 5;
      const header = Buffer.from(bytes.subarray(0, end));
      header.writeUInt16BE(0x8180, 2);
      header.writeUInt16BE(1, 6);
      header.writeUInt16BE(0, 10);
      const a = bytes.readUInt16BE(end - 4) === 1;
      if (!a) header.writeUInt16BE(0, 6);
      const record = a ? Buffer.from('c00c000100010000000a0004c6336407', 'hex') : Buffer.alloc(0);
      const good = Buffer.concat([header, record]);
      const forged = Buffer.from(good);
      forged[0] = (forged[0] as number) ^ 0xff;
      upstream.send(forged, peer.port, peer.address);
      upstream.send(good, peer.port, peer.address);
    });
    const forward = { from: host, servers: ['127.0.0.1'] };
    const names = await NameServer.start({ netns: box, networks: [network], forward });
    expect(await resolve(box, names.resolvConf(), "getent ahostsv4 example.org | awk '{print $1}' | sort -u")).toBe(
      '198.51.100.7',
    );
    expect(asked).toBeGreaterThan(0);
    await names.close();
    await names.close();
    asked = 0;
    using internal = BridgeNetwork.create({ name: 'inside', host, subnets: ['10.51.0.0/24'], internal: true });
    await internal.attach(other, { names: ['safe'] });
    await using shut = await NameServer.start({ netns: other, networks: [internal], forward });
    expect(await resolve(other, shut.resolvConf(), 'getent ahostsv4 example.org')).toMatch(/^failed/);
    expect(await resolve(other, shut.resolvConf(), "getent ahostsv4 safe | awk '{print $1}' | sort -u")).toBe(
      '10.51.0.2',
    );
    expect(asked).toBe(0);
    upstream.close();
    await once(upstream, 'close');
  });

  it('by TCP: many questions on one connection, in pieces; nonsense does it no harm', async () => {
    await using names = await NameServer.start({ netns: box, networks: [network] });
    const question = Buffer.from(`1234010000010000000000000377656200${'00010001'}`, 'hex');
    const framed = Buffer.concat([Buffer.from([0, question.length]), question]);
    const socket = box.connect({ host: names.address, port: 53 });
    const got: Buffer[] = [];
    socket.on('data', (chunk) => got.push(chunk));
    for (const byte of framed) {
      socket.write(Buffer.from([byte]));
      await new Promise((done) => setImmediate(done));
    }
    socket.write(Buffer.concat([framed, framed, Buffer.from([0, 3, 1, 2, 3]), framed]));
    await expect.poll(() => Buffer.concat(got).length, { timeout: 5000 }).toBe(4 * (2 + question.length + 16));
    socket.destroy();
    const client = box.datagram();
    for (let i = 0; i < 200; i++) client.send(Buffer.alloc(i, i), 53, names.address);
    client.send(question, 53, names.address);
    const [answer] = (await once(client, 'message')) as [Buffer];
    expect(answer.subarray(-4)).toEqual(Buffer.from([10, 50, 0, 2]));
    client.close();
    await once(client, 'close');
  });

  it('what does not fit is cut and comes by TCP; a name without an address of that family is no error; nor is nobody to ask', async () => {
    const many = Array.from({ length: 100 }, (_, i) => `10.60.0.${i + 1}`);
    const forward = { from: host, servers: ['127.0.0.1'] };
    const hosts = { 'many.internal': many, 'four.internal': ['10.60.0.1'] };
    await using names = await NameServer.start({ netns: box, networks: [network], hosts, forward });
    /** What dig says, which is not ours. */
    const dig = async (...args: string[]) => {
      const enter = [`--net=/proc/${process.pid}/fd/${box.fd.number}`, 'dig', `@${names.address}`, '+tries=1'];
      return (await run('nsenter', [...enter, ...args])).stdout;
    };
    const answers = (said: string) => Number(/ANSWER: (\d+)/.exec(said)?.[1]);
    const [plain, small, large, whole, none, dead] = await Promise.all([
      dig('+noedns', '+ignore', 'many.internal'),
      dig('+bufsize=1232', '+ignore', 'many.internal'),
      dig('+bufsize=4096', '+ignore', 'MANY.internal'),
      dig('+bufsize=512', 'many.internal'),
      dig('four.internal', 'AAAA'),
      dig('elsewhere.example'),
    ]);
    for (const cut of [plain, small]) expect(cut).toMatch(/flags:[a-z ]* tc/);
    expect([answers(large), answers(whole)]).toEqual([100, 100]);
    expect(large).not.toMatch(/flags:[a-z ]* tc/);
    expect(none).toMatch(/status: NOERROR/);
    expect(answers(none)).toBe(0);
    // Nobody listens there, which the kernel says at once.
    expect(dead).toMatch(/status: SERVFAIL/);
    const client = box.datagram();
    const seen = new Set<number>();
    client.on('message', (bytes) => seen.add(bytes.readUInt16BE(0)));
    const question = Buffer.from(`0000010000010000000000000377656200${'00010001'}`, 'hex');
    for (let id = 1; id <= 2000; id++) {
      question.writeUInt16BE(id);
      client.send(Buffer.from(question), 53, names.address);
      // As many as a socket buffers.
      if (id % 100 === 0) await expect.poll(() => seen.size, { timeout: 5000, interval: 2 }).toBe(id);
    }
    client.close();
    await once(client, 'close');
  });

  it('is one in its namespace', async () => {
    await using names = await NameServer.start({ netns: box, networks: [] });
    await expect(NameServer.start({ netns: box, networks: [] })).rejects.toMatchObject({ code: 'EADDRINUSE' });
    await expect(
      NameServer.start({ netns: box, networks: [], forward: { from: host, servers: ['dns'] } }),
    ).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
    expect(names.address).toBe('127.0.0.11');
  });
});
