import { closeSync, constants, openSync, readFileSync } from 'node:fs';
import { UserNamespace } from '@iso/namespaces';
import { NetNS } from '@iso/netns';
import { Conntrack } from '@iso/netns/conntrack';
import { masquerade, Nft } from '@iso/netns/nft';
import type { QdiscSettings } from '@iso/netns/tc';
import { type Finding, failed, Missing, trying } from './finding.js';
import { installed } from './kernel.js';

const AREA = 'network';
const TUN = '/dev/net/tun';

/** The end of a pair that others lie on. */
const PARENT = 'v0';
const kinds = [
  { kind: 'bridge' },
  { kind: 'dummy' },
  { kind: 'macvlan', parent: PARENT },
  { kind: 'ipvlan', parent: PARENT },
  { kind: 'vlan', parent: PARENT, data: { id: 7 } },
  { kind: 'vxlan', data: { id: 7 } },
  { kind: 'ifb' },
] as const;

const qdiscs: readonly QdiscSettings[] = [
  { kind: 'tbf', rate: 1e6, burst: 65536, latency: 50 },
  { kind: 'htb' },
  { kind: 'fq_codel' },
  { kind: 'netem', delay: 10 },
  { kind: 'ingress' },
];

/**
 * Links, firewall, limits and the ways out, in a network namespace that is dropped again.
 *
 * @returns what was found
 */
export function examineNetwork(): Finding[] {
  const owner = process.getuid?.() === 0 ? undefined : UserNamespace.create('root');
  try {
    using lab = NetNS.create(owner ? { owner: owner.fd } : {});
    return [...links(lab), ...firewall(lab), ...shapes(lab), ...ways()];
  } catch (error) {
    return [failed(AREA, 'namespace', error)];
  } finally {
    owner?.close();
  }
}

const module = (names: string) => `who chooses the kernel, or root: modprobe -a ${names}`;

function links(lab: NetNS): Finding[] {
  const of = trying(AREA);
  const { links: all } = lab.rtnl;
  const veth = of(
    'veth links',
    () => all.create({ kind: 'veth', name: PARENT, up: true, peer: { name: 'v1' } }),
    module('veth'),
  );
  const others = kinds.map((link) =>
    of(
      `${link.kind} links`,
      () => {
        all.create({ ...link, name: 'try0' });
        all.remove('try0');
      },
      module(link.kind),
    ),
  );
  const tun = of('tun links', () => {
    openTun();
    lab.tun({ name: 'tun0' }).close();
  });
  return [veth, ...others, tun];
}

/** Of a plain user's own namespace too, a device is made by the machine's file. */
function openTun(): void {
  try {
    closeSync(openSync(TUN, constants.O_RDWR));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const remedy = code === 'EACCES' || code === 'EPERM' ? `chmod 666 ${TUN}` : 'modprobe tun';
    throw new Missing(`${TUN} cannot be opened: ${code}`, `root: ${remedy}`);
  }
}

function firewall(lab: NetNS): Finding[] {
  const of = trying(AREA);
  return [
    of(
      'nf_tables with translation',
      () => {
        using nft = Nft.open({ home: lab });
        const table = { family: 'inet', name: 'doctor' } as const;
        const chain = { table, name: 'post', hook: { type: 'nat', hook: 'postrouting', priority: 100 } } as const;
        nft.transaction((transaction) => {
          transaction.createTable(table);
          transaction.createChain(chain);
          transaction.createRule({ chain, statements: [masquerade()] });
        });
        return 'for networks of kind bridge';
      },
      module('nf_tables nft_chain_nat nft_masq'),
    ),
    of('connection tracking', () => {
      Conntrack.open({ home: lab })[Symbol.dispose]();
    }),
    of('forwarding', () => {
      const on = readFileSync('/proc/sys/net/ipv4/ip_forward', 'utf8').trim() === '1';
      return on ? 'on' : 'off: the first network that has a way out switches it on';
    }),
  ];
}

function shapes(lab: NetNS): Finding[] {
  const of = trying(AREA);
  return qdiscs.map((settings) =>
    of(
      `limits by ${settings.kind}`,
      () => {
        const parent = settings.kind === 'ingress' ? ('ingress' as const) : ('root' as const);
        lab.rtnl.qdiscs.create({ link: PARENT }, settings);
        lab.rtnl.qdiscs.remove({ link: PARENT, parent });
      },
      module(`sch_${settings.kind}`),
    ),
  );
}

function ways(): Finding[] {
  const of = trying(AREA);
  return ['pasta', 'slirp4netns'].map((program) =>
    of(`a way out by ${program}`, () => {
      if (!installed(program))
        throw new Missing(
          'it is not installed',
          `root: apt-get install ${program === 'pasta' ? 'passt' : program}; needed by plain users only`,
        );
      openTun();
      return 'for networks of plain users';
    }),
  );
}
