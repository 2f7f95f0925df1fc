import { once } from 'node:events';
import { readSync, writeSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { NetNS } from '../index.js';
import { inside, ip, root } from '../testing/judge.js';

const code = (name: string, more: object = {}) => expect.objectContaining({ code: name, ...more });

/** An IPv4 packet with a UDP datagram; without a UDP checksum, which says that there is none. */
function packet(from: number[], to: number[], port: number, text: string): Buffer {
  const bytes = Buffer.alloc(28 + text.length);
  bytes.set([0x45, 0, 0, bytes.length, 0, 0, 0, 0, 64, 17, 0, 0, ...from, ...to]);
  let sum = 0;
  for (let i = 0; i < 20; i += 2) sum += bytes.readUInt16BE(i);
  bytes.writeUInt16BE(~((sum & 0xffff) + (sum >> 16)) & 0xffff, 10);
  bytes.writeUInt16BE(9, 20);
  bytes.writeUInt16BE(port, 22);
  bytes.writeUInt16BE(8 + text.length, 24);
  bytes.write(text, 28);
  return bytes;
}

describe.skipIf(!root)('tun and tap links [needs root]', () => {
  it.each(['tun', 'tap'] as const)('%s, as ip sees it; it goes with its descriptor', async (mode) => {
    using ns = NetNS.create();
    using other = NetNS.create();
    const link = ns.tun({ mode, name: 'mine' });
    using second = ns.tun({ mode });
    expect([link.name, second.name]).toEqual(['mine', `${mode}0`]);
    expect(ip(ns, '-d link show mine')).toMatchObject([
      { linkinfo: { info_kind: 'tun', info_data: { type: mode, pi: false, persist: false } } },
    ]);
    expect(ns.rtnl.links.get('mine')).toMatchObject({ kind: 'tun', data: { mode, persist: false } });
    expect(ip(other, 'link').map((each) => each.ifname)).toEqual(['lo']);
    expect(() => ns.tun({ mode, name: 'mine' })).toThrow(code('EBUSY'));
    link.close();
    await expect.poll(() => ip(ns, 'link').map((each) => each.ifname)).toEqual(['lo', `${mode}0`]);
  });

  it('carries packets both ways', async () => {
    using ns = NetNS.create();
    using tun = ns.tun({ name: 'wire' });
    ns.rtnl.addresses.create({ link: 'wire', address: '10.7.0.1/24' });
    ns.sysctl.set('net.ipv6.conf.wire.disable_ipv6', 1);
    ns.rtnl.links.set('wire', { up: true });
    const socket = ns.datagram({ host: '10.7.0.1', port: 700 });
    const came = once(socket, 'message');
    writeSync(tun.fd.number, packet([10, 7, 0, 2], [10, 7, 0, 1], 700, 'come in'));
    const [text, peer] = await came;
    expect([String(text), peer.address]).toEqual(['come in', '10.7.0.2']);
    await new Promise<void>((resolve) => socket.send('go out', 9, '10.7.0.2', () => resolve()));
    const bytes = Buffer.alloc(2000);
    const length = readSync(tun.fd.number, bytes);
    expect([bytes.subarray(28, length).toString(), [...bytes.subarray(16, 20)]]).toEqual(['go out', [10, 7, 0, 2]]);
    expect(() => readSync(tun.fd.number, bytes)).toThrow(code('EAGAIN'));
    socket.close();
    await once(socket, 'close');
  });

  it('persists, belongs to somebody, and is opened again', () => {
    using ns = NetNS.create();
    ns.tun({ name: 'stays', mode: 'tap', persist: true, uid: 65534, gid: 65533 }).close();
    expect(ip(ns, '-d link show stays')).toMatchObject([
      { linkinfo: { info_data: { type: 'tap', persist: true, user: 'nobody', group: expect.anything() } } },
    ]);
    expect(ns.rtnl.links.get('stays').data).toMatchObject({ uid: 65534, gid: 65533, persist: true });
    expect(() => ns.tun({ name: 'stays', mode: 'tun' })).toThrow(code('EINVAL'));
    ns.tun({ name: 'stays', mode: 'tap', persist: false }).close();
    expect(inside(ns, 'ip -o link | wc -l').trim()).toBe('1');
  });

  it('refuses, and leaves nothing', () => {
    using ns = NetNS.create();
    for (const name of ['', 'sixteen-bytes-xx', 'a%d', 'a/b'])
      expect(() => ns.tun({ name })).toThrow(code('ERR_INVALID_ARG_VALUE'));
    expect(() => ns.tun({ name: 'lo' })).toThrow(code('EINVAL'));
    expect(() => ns.rtnl.links.create({ kind: 'other', type: 'tun', name: 'x' })).toThrow(
      expect.objectContaining({ errno: expect.any(Number) }),
    );
    expect(ip(ns, 'link').map((each) => each.ifname)).toEqual(['lo']);
  });
});
