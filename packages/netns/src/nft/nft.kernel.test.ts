import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text as readText } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { NetNS } from '../index.js';
import { inside, outside, root } from '../testing/judge.js';
import {
  accept,
  counter,
  dnat,
  drop,
  goto,
  inSet,
  jump,
  limit,
  log,
  masquerade,
  match,
  Nft,
  notrack,
  redirect,
  reject,
  returns,
  type SetSpec,
  type Statement,
  setMark,
  snat,
  type TableFamily,
  type Transaction,
  vmap,
} from './index.js';

const nftMissing = outside('command -v nft || true') === '';
const T = { family: 'inet', name: 't' } as const;
const chain = (name: string, table: { family: TableFamily; name: string } = T) => ({ table, name });
const code = (name: string, more: object = {}) => expect.objectContaining({ code: name, ...more });

/** What nft sees, without numbers that differ from run to run. */
function judged(ns: NetNS): unknown {
  return JSON.parse(inside(ns, 'nft -j list ruleset'), (key, value) =>
    key === 'handle' || key === 'expires' ? undefined : value,
  );
}

const sets: Record<string, SetSpec> = {
  ports: { table: T, name: 'ports', key: ['inet_proto', 'inet_service'], data: ['ipv4_addr', 'inet_service'] },
  nets: { table: T, name: 'nets', key: 'ipv4_addr', flags: ['interval'] },
  nets6: { table: T, name: 'nets6', key: 'ipv6_addr', flags: ['interval'] },
  ifs: { table: T, name: 'ifs', key: 'ifname', data: 'verdict' },
  timed: {
    table: T,
    name: 'timed',
    key: ['ipv4_addr', 'inet_service'],
    flags: ['timeout'],
    timeout: 60_000,
    size: 1000,
  },
  ranges: { table: T, name: 'ranges', key: ['ipv4_addr', 'inet_service'], flags: ['interval'] },
  marks: { table: T, name: 'marks', key: 'mark' },
  macs: { table: T, name: 'macs', key: 'ether_addr' },
};
const set = (name: keyof typeof sets) => sets[name] as SetSpec;

/** Of everything something. */
function everything(tx: Transaction): void {
  tx.createTable(T);
  tx.createChain({ ...chain('pre'), hook: { type: 'nat', hook: 'prerouting', priority: -100, policy: 'accept' } });
  tx.createChain({ ...chain('post'), hook: { type: 'nat', hook: 'postrouting', priority: 100 } });
  tx.createChain({ ...chain('forward'), hook: { type: 'filter', hook: 'forward', priority: 0, policy: 'drop' } });
  tx.createChain({ ...chain('first'), hook: { type: 'filter', hook: 'prerouting', priority: -300 } });
  tx.createChain(chain('sub'));
  for (const spec of Object.values(sets)) tx.createSet(spec);
  tx.createElements(set('ports'), [
    { key: ['tcp', 80], data: ['10.0.0.2', 8080] },
    { key: ['udp', 53], data: ['10.0.0.3', 5353], comment: 'dns' },
  ]);
  tx.createElements(set('nets'), [
    { key: '10.0.0.0/8' },
    { key: '192.168.1.1' },
    { key: { from: '172.16.0.5', to: '172.16.0.9' } },
  ]);
  tx.createElements(set('nets6'), [{ key: 'fd00::/8' }, { key: 'ff00::/8' }]);
  tx.createElements(set('ifs'), [
    { key: 'eth0', data: { jump: 'sub' } },
    { key: 'eth1', data: 'accept' },
  ]);
  tx.createElements(set('timed'), [{ key: ['1.2.3.4', 443] }, { key: ['1.2.3.5', 443], timeout: 50_000 }]);
  tx.createElements(set('ranges'), [{ key: ['10.0.0.0/24', { from: 1, to: 1024 }] }]);
  tx.createElements(set('marks'), [{ key: 7 }]);
  tx.createElements(set('macs'), [{ key: '02:00:00:00:00:01' }]);
  const rule = (name: string, ...statements: Statement[]) => tx.createRule({ chain: chain(name), statements });
  const viaMap = { family: 'ip', key: ['meta l4proto', 'th dport'], map: 'ports', withPort: true } as const;
  rule('first', match('udp dport', 4000), notrack());
  rule('pre', match('fib daddr type', 'local'), dnat(viaMap));
  rule('pre', match('tcp dport', 81), dnat({ address: '10.0.0.9', port: 8081 }));
  rule('pre', match('udp dport', 81), dnat({ address: 'fd00::9', port: 8081 }));
  rule('pre', match('tcp dport', 82), redirect(8082));
  rule('post', match('ip saddr', '10.0.0.0/24'), match('meta oifname', 'br0', '!='), counter(), masquerade());
  rule('post', match('ip saddr', '10.1.0.0/20'), masquerade('random', 'persistent'));
  rule('post', match('ip6 saddr', 'fd00::/61'), snat({ address: 'fd01::1' }));
  rule('post', match('ip daddr', '10.0.0.7'), snat({ address: '10.2.0.1' }));
  rule('forward', match('ct state', ['established', 'related']), accept());
  rule('forward', match('ct state', 'invalid'), drop());
  rule('forward', match('ct status', 'dnat'), accept());
  rule('forward', vmap('meta iifname', 'ifs'));
  rule('forward', inSet('ip saddr', 'nets'), counter(), accept());
  rule('forward', inSet('ip6 daddr', 'nets6', { invert: true }), drop());
  rule('forward', inSet(['ip daddr', 'tcp dport'], 'timed'), accept());
  rule('forward', inSet(['ip daddr', 'tcp dport'], 'ranges'), accept());
  rule('forward', inSet('ether saddr', 'macs'), accept());
  rule('forward', match('meta mark', 5), setMark(6), setMark(7, 'ct mark'));
  rule('forward', match('meta iifname', 'veth*'), limit(10, { per: 'minute' }), log({ prefix: 'x: ' }), reject());
  rule('forward', match('tcp dport', { from: 1000, to: 2000 }), reject('tcp reset'));
  rule('forward', match('tcp sport', 5, '>='), log({ group: 3 }), drop());
  rule('forward', match('icmp type', 'echo-request'), limit(1000, { unit: 'bytes', over: true }), drop());
  rule('forward', match('meta l4proto', 'udp'), match('th dport', 53), accept());
  rule('forward', match('ct mark', 3), match('ct direction', 'original'), goto('sub'));
  rule('forward', match('ct original ip daddr', '10.0.0.1'), returns());
  rule('forward', match('meta pkttype', 'broadcast'), jump('sub'));
  const first = [match('ether saddr', '02:00:00:00:00:05'), accept()];
  tx.createRule({ chain: chain('sub'), statements: [counter()] });
  tx.createRule({ chain: chain('sub'), statements: first, comment: 'the first one', insert: true });
}

describe.skipIf(!root || nftMissing)('nf_tables [needs root, nft]', () => {
  it('everything that is written in netlink is what nft makes of the same text', () => {
    using ours = NetNS.create();
    using theirs = NetNS.create();
    using nft = Nft.open({ home: ours });
    let script = '';
    nft.transaction((tx) => {
      everything(tx);
      script = tx.toNftText();
    });
    inside(theirs, 'nft -f /dev/stdin', script);
    expect(judged(ours)).toEqual(judged(theirs));
  });

  // Node's standard input for children is a pair of sockets, which nft cannot open anew as /dev/stdin, as it does for JSON.
  it('its text is read by nft from what Node writes to it; JSON of the same only from a file', () => {
    const labs = Array.from({ length: 3 }, () => NetNS.create());
    const [text, json, ours] = labs as [NetNS, NetNS, NetNS];
    const directory = mkdtempSync(join(tmpdir(), 'iso-nft-'));
    try {
      using nft = Nft.open({ home: ours });
      let script = '';
      nft.transaction((tx) => {
        tx.createTable(T);
        tx.createChain({ ...chain('in'), hook: { type: 'filter', hook: 'input', priority: 0, policy: 'drop' } });
        tx.createRule({ chain: chain('in'), statements: [match('tcp dport', 22), counter(), accept()] });
        script = tx.toNftText();
      });
      const nftOf = (ns: NetNS, args: string[], input: string) =>
        execFileSync('nsenter', [`--net=/proc/${process.pid}/fd/${ns.fd.number}`, 'nft', ...args], {
          input,
          encoding: 'utf8',
          stdio: 'pipe',
        });
      nftOf(text, ['-f', '-'], script);
      expect(judged(text)).toEqual(judged(ours));
      const list = inside(ours, 'nft -j list ruleset');
      // nft gives up before it has read all.
      expect(() => nftOf(json, ['-j', '-f', '-'], list)).toThrow(/No such device or address|EPIPE/);
      expect(inside(json, 'nft list ruleset')).toBe('');
      const file = join(directory, 'rules.json');
      writeFileSync(file, list);
      nftOf(json, ['-j', '-f', file], '');
      expect(judged(json)).toEqual(judged(ours));
    } finally {
      rmSync(directory, { recursive: true });
      for (const lab of labs) lab.close();
    }
  });

  it('lists what nft made', () => {
    using ns = NetNS.create();
    using nft = Nft.open({ home: ns });
    let script = '';
    const elsewhere = NetNS.create();
    using other = Nft.open({ home: elsewhere });
    other.transaction((tx) => {
      everything(tx);
      script = tx.toNftText();
    });
    elsewhere.close();
    inside(ns, 'nft -f /dev/stdin', `${script}\nadd table ip6 second`);
    const theirs = (
      JSON.parse(inside(ns, 'nft -j list ruleset')) as { nftables: Record<string, Record<string, unknown>>[] }
    ).nftables;
    const handles = (what: string) => theirs.flatMap((entry) => (entry[what] ? [entry[what]] : []));
    expect(nft.tables().map((table) => [table.family, table.name, Number(table.handle), table.flags])).toEqual([
      ...handles('table').map((table) => [table.family, table.name, table.handle, []]),
    ]);
    const chains = handles('chain').map((one) => [one.name, one.handle, one.type, one.hook, one.prio, one.policy]);
    expect(
      nft
        .chains()
        .map(({ name, handle, hook }) => [name, Number(handle), hook?.type, hook?.hook, hook?.priority, hook?.policy]),
    ).toEqual(chains);
    expect(nft.rules(T).map((rule) => [rule.chain, Number(rule.handle), rule.comment])).toEqual(
      handles('rule').map((rule) => [rule.chain, rule.handle, rule.comment]),
    );
    const names = [...handles('set'), ...handles('map')].map((one) => one.name).sort();
    expect(
      nft
        .sets(T)
        .map((one) => one.name)
        .sort(),
    ).toEqual(names);
    expect(
      nft
        .elements(T, 'ports')
        .map((one) => [one.key, one.data, one.comment])
        .sort(),
    ).toEqual([
      [['tcp', 80], ['10.0.0.2', 8080], undefined],
      [['udp', 53], ['10.0.0.3', 5353], 'dns'],
    ]);
    expect(nft.elements(T, 'ifs').map((one) => [one.key[0], one.data])).toEqual(
      expect.arrayContaining([
        ['eth0', { jump: 'sub' }],
        ['eth1', 'accept'],
      ]),
    );
    expect(nft.elements(T, 'ranges')).toMatchObject([{ key: ['10.0.0.0', 1], keyEnd: ['10.0.0.255', 1024] }]);
    expect(nft.elements(T, 'timed')[0]?.expires).toBeLessThanOrEqual(60_000);
    expect(nft.elements(T, 'marks').map((one) => one.key)).toEqual([[7]]);
    expect(() => nft.elements(T, 'nope')).toThrow(code('ENOENT'));
  });

  it('a transaction is done as a whole or not at all, and says what was refused', () => {
    using ns = NetNS.create();
    using nft = Nft.open({ home: ns });
    nft.transaction((tx) => {
      tx.createTable(T);
      tx.createChain(chain('a'));
    });
    const before = judged(ns);
    const attempt = () =>
      nft.transaction((tx) => {
        tx.createChain(chain('b'));
        tx.createRule({ chain: chain('b'), statements: [jump('missing')] });
        tx.createChain(chain('c'));
      });
    expect(attempt).toThrow(
      code('ENOENT', { info: expect.objectContaining({ operation: 'add rule inet t b jump missing' }) }),
    );
    expect(judged(ns)).toEqual(before);
    expect(() => nft.transaction((tx) => tx.createTable(T))).toThrow(code('EEXIST'));
    expect(() => nft.transaction((tx) => tx.removeTable(chain('x', { family: 'ip', name: 'nope' }).table))).toThrow(
      code('ENOENT'),
    );
    nft.transaction((tx) => tx.ensureTable(T));
    nft.transaction(() => {});
    expect(judged(ns)).toEqual(before);
    nft.transaction((tx) => {
      tx.removeChain(chain('a'));
      tx.removeTable(T);
    });
    expect(judged(ns)).toMatchObject({ nftables: [{ metainfo: {} }] });
  });

  it('rules are removed by handle, elements and sets by name; thousands of elements at once', () => {
    using ns = NetNS.create();
    using nft = Nft.open({ home: ns });
    const big: SetSpec = {
      table: T,
      name: 'big',
      key: ['inet_proto', 'inet_service'],
      data: ['ipv4_addr', 'inet_service'],
    };
    const elements = Array.from({ length: 3000 }, (_, i) => ({
      key: ['tcp', i + 1],
      data: [`10.0.${i >> 8}.${i & 255}`, 80],
    }));
    nft.transaction((tx) => {
      tx.createTable(T);
      tx.createChain(chain('a'));
      for (const statement of [counter(), accept(), drop()])
        tx.createRule({ chain: chain('a'), statements: [statement] });
      tx.createSet(big);
      tx.createElements(big, elements);
    });
    const listed = JSON.parse(inside(ns, 'nft -j list map inet t big')) as {
      nftables: { map?: { elem: unknown[] } }[];
    };
    expect(listed.nftables.find((entry) => entry.map)?.map?.elem.length).toBe(3000);
    expect(nft.elements(T, 'big').length).toBe(3000);
    nft.transaction((tx) => tx.removeElements(big, elements.slice(0, 2990)));
    expect(nft.elements(T, 'big').length).toBe(10);
    const [, middle] = nft.rules(T, 'a');
    nft.transaction((tx) => tx.removeRule(chain('a'), middle?.handle as bigint));
    expect(inside(ns, 'nft list chain inet t a')).not.toContain('accept');
    nft.transaction((tx) => {
      tx.flushSet(big);
      tx.flushChain(chain('a'));
    });
    expect(nft.rules(T)).toEqual([]);
    expect(nft.elements(T, 'big')).toEqual([]);
    nft.transaction((tx) => tx.removeSet(big));
    expect(nft.sets(T)).toEqual([]);
    expect(() => nft.transaction((tx) => tx.createElements(big, elements.slice(0, 1)))).toThrow(code('ENOENT'));
  });

  it('an owned table is nobody else’s, survives a flush, and goes with its socket', () => {
    using ns = NetNS.create();
    const nft = Nft.open({ home: ns });
    nft.transaction((tx) => tx.createTable({ ...T, flags: ['owner'] }));
    expect(nft.tables()).toMatchObject([{ flags: ['owner'], owner: expect.any(Number) }]);
    inside(ns, 'nft add table ip theirs; nft flush ruleset');
    expect(inside(ns, 'nft list tables').trim()).toBe('table inet t');
    expect(() => inside(ns, 'nft delete table inet t')).toThrow(/not permitted/);
    using stranger = Nft.open({ home: ns });
    expect(() => stranger.transaction((tx) => tx.createChain(chain('a')))).toThrow(code('EPERM'));
    nft.close();
    expect(inside(ns, 'nft list tables').trim()).toBe('');
  });

  it('bad input is refused before it is sent', () => {
    using ns = NetNS.create();
    using nft = Nft.open({ home: ns });
    nft.transaction((tx) => {
      tx.createTable(T);
      tx.createChain(chain('a'));
    });
    const bad =
      (...statements: Statement[]) =>
      () =>
        nft.transaction((tx) => tx.createRule({ chain: chain('a'), statements }));
    const wrong = code('ERR_INVALID_ARG_VALUE');
    expect(bad(match('ip saddr', 'fd00::1'))).toThrow(wrong);
    expect(bad(match('tcp dport', 65536))).toThrow(wrong);
    expect(bad(match('tcp dport', 'http'))).toThrow(wrong);
    expect(bad(match('meta iifname', 'sixteen-bytes-xx'))).toThrow(wrong);
    expect(bad(match('nope' as 'tcp dport', 1))).toThrow(wrong);
    expect(bad(match('ip saddr', '10.0.0.1'), match('ip6 saddr', 'fd00::1'))).toThrow(wrong);
    expect(bad(match('tcp dport', 1), match('udp dport', 1))).toThrow(wrong);
    expect(bad(dnat({}))).toThrow(wrong);
    expect(bad(dnat({ port: 80 }))).toThrow(wrong);
    expect(() => nft.transaction((tx) => tx.createTable({ family: 'inet', name: '' }))).toThrow(wrong);
    expect(() => nft.transaction((tx) => tx.createTable({ family: 'nope' as 'inet', name: 'x' }))).toThrow(wrong);
    const elements = (spec: SetSpec, element: Parameters<Transaction['createElements']>[1][0]) => () =>
      nft.transaction((tx) => tx.createElements(spec, [element]));
    expect(elements(set('marks'), { key: '10.0.0.0/8' })).toThrow(wrong);
    expect(elements(set('nets'), { key: { from: '10.0.0.9', to: '10.0.0.1' } })).toThrow(wrong);
    expect(elements(set('ports'), { key: ['tcp', 80] })).toThrow(wrong);
    expect(elements(set('ports'), { key: 'tcp', data: ['10.0.0.1', 1] })).toThrow(wrong);
    expect(elements(set('macs'), { key: '02:00:00:00:00:01', data: 5 })).toThrow(wrong);
  });

  it('names that are words of nft’s language work over netlink', () => {
    using ns = NetNS.create();
    using nft = Nft.open({ home: ns });
    nft.transaction((tx) => {
      for (const name of ['fwd', 'drop', 'ip', 'a b']) {
        const table = { family: 'inet', name } as const;
        tx.createTable(table);
        tx.createChain({ ...chain(name, table), hook: { type: 'filter', hook: 'input', priority: 0 } });
      }
    });
    expect(nft.chains().map((one) => one.name)).toEqual(['fwd', 'drop', 'ip', 'a b']);
  });

  it('works: drops, counts, redirects, translates by a map', async () => {
    using ns = NetNS.create();
    using nft = Nft.open({ home: ns });
    ns.rtnl.addresses.create({ link: 'lo', address: '10.7.0.1/32' });
    const doors: SetSpec = {
      table: T,
      name: 'doors',
      key: ['inet_proto', 'inet_service'],
      data: ['ipv4_addr', 'inet_service'],
    };
    nft.transaction((tx) => {
      tx.createTable({ ...T, flags: ['owner'] });
      tx.createChain({ ...chain('in'), hook: { type: 'filter', hook: 'input', priority: 0, policy: 'accept' } });
      tx.createChain({ ...chain('out'), hook: { type: 'nat', hook: 'output', priority: -100 } });
      tx.createSet(doors);
      tx.createElements(doors, [{ key: ['tcp', 8080], data: ['10.7.0.1', 9000] }]);
      tx.createRule({ chain: chain('in'), statements: [match('tcp dport', 9001), counter(), reject('tcp reset')] });
      tx.createRule({ chain: chain('out'), statements: [match('tcp dport', 7070), redirect(9000)] });
      const viaMap = { family: 'ip', key: ['meta l4proto', 'tcp dport'], map: 'doors', withPort: true } as const;
      tx.createRule({ chain: chain('out'), statements: [dnat(viaMap)] });
    });
    const server = ns.listen({ port: 9000 }, (socket) => socket.end(`${socket.localAddress}`));
    const closed = ns.listen({ port: 9001 });
    expect(await readText(ns.connect({ port: 8080 }))).toBe('::ffff:10.7.0.1');
    expect(await readText(ns.connect({ port: 7070 }))).toBe('::ffff:127.0.0.1');
    const [error] = (await once(ns.connect({ port: 9001 }), 'error')) as [NodeJS.ErrnoException];
    expect(error.code).toBe('ECONNREFUSED');
    const counted = nft.rules(T, 'in')[0]?.counter;
    const theirs = /counter packets (\d+) bytes (\d+)/.exec(inside(ns, 'nft list chain inet t in'));
    expect([`${counted?.packets}`, `${counted?.bytes}`]).toEqual([theirs?.[1], theirs?.[2]]);
    expect(counted?.packets).toBeGreaterThan(0n);
    for (const each of [server, closed]) {
      each.close();
      await once(each, 'close');
    }
  });
});
