import { randomBytes } from 'node:crypto';
import { rangeOf } from '../ip/ip.js';
import type { NetNS } from '../namespace/netns.js';
import { limit, match, Nft, type TracedPacket, trace, watchTrace } from '../nft/index.js';

/** A packet of a network that somebody's firewall dropped. */
export interface Drop {
  /** The chain that dropped it, as nft names it: family, table, chain. */
  by: string;
  /** Handle of the rule, as `nft -a list ruleset` shows it; undefined where it was the policy of the chain. */
  rule: bigint | undefined;
  /** The packet, as it came. */
  packet: TracedPacket | undefined;
}

/** Whose packets are looked at. */
export interface DropOptions {
  /** Namespace that plays the host. */
  host: NetNS;
  /** Subnets of the network. */
  subnets: readonly string[];
  /** Ends it: the iteration is done. */
  signal?: AbortSignal;
}

/** Packets a second that are looked at: of more a part says enough. */
const RATE = 500;
const REMEMBERED = 4096;

/**
 * Who drops the traffic of a network: an accept in one table is not the last word, any other may still drop. For as long as somebody iterates,
 * the kernel tells of each packet from and to the network what every rule of everybody does with it, and those that are dropped come out
 * here, with the name of the chain. Rules of iptables-legacy(8) are not seen by this.
 *
 * @param options - where, which
 * @returns the dropped packets, as they are dropped; those of the first packets on wait
 * @throws KernelError `EPERM`; `TypeError` (`ERR_INVALID_ARG_VALUE`) for what is no subnet
 *
 * @example
 * ```ts root
 * import { NetNS } from '@iso/netns';
 * import { watchDrops } from '@iso/netns/network';
 * using host = NetNS.create();
 * for await (const { by, packet } of watchDrops({ host, subnets: ['10.50.0.0/24'], signal: AbortSignal.timeout(50) }))
 *   console.log(`${by} drops what goes to ${packet?.destination}`);
 * ```
 */
export function watchDrops(options: DropOptions): AsyncIterableIterator<Drop> & AsyncDisposable {
  const { host, subnets, signal } = options;
  const families = subnets.map((subnet) => ({ subnet, six: rangeOf(subnet).family === 6 }));
  const nft = Nft.open({ home: host });
  let monitor: ReturnType<typeof watchTrace> | undefined;
  try {
    const table = { family: 'inet', name: `iso-drops-${randomBytes(6).toString('hex')}` } as const;
    const chain = { table, name: 'prerouting' };
    monitor = watchTrace({ home: host, receiveBuffer: 2 ** 22 });
    const watched = monitor;
    nft.transaction((tx) => {
      tx.createTable({ ...table, flags: ['owner'] });
      // Before everybody else's.
      tx.createChain({ ...chain, hook: { type: 'filter', hook: 'prerouting', priority: -500, policy: 'accept' } });
      for (const { subnet, six } of families)
        for (const field of ['saddr', 'daddr'] as const)
          tx.createRule({
            chain,
            statements: [match(six ? `ip6 ${field}` : `ip ${field}`, subnet), limit(RATE), trace()],
          });
    });
    const stop = () => {
      watched.close();
      nft.close();
    };
    if (signal?.aborted) stop();
    signal?.addEventListener('abort', stop, { once: true });
    const drops = dropsOf(watched);
    const end = async () => {
      signal?.removeEventListener('abort', stop);
      stop();
      return await drops.return(undefined);
    };
    return {
      next: () => drops.next(),
      return: end,
      [Symbol.asyncIterator]() {
        return this;
      },
      [Symbol.asyncDispose]: async () => {
        await end();
      },
    };
  } catch (error) {
    monitor?.close();
    nft.close();
    throw error;
  }
}

async function* dropsOf(events: ReturnType<typeof watchTrace>): AsyncGenerator<Drop, undefined> {
  const packets = new Map<number, TracedPacket>();
  for await (const event of events) {
    if (!event) continue;
    // Where it came in; what it looks like after a translation is said too.
    if (event.packet && !packets.has(event.id)) packets.set(event.id, event.packet);
    if (packets.size > REMEMBERED) packets.delete(packets.keys().next().value as number);
    if (event.verdict !== 'drop') continue;
    const { family, table, chain, by, handle } = event;
    yield {
      by: `${family} ${table} ${chain}`,
      rule: by === 'rule' ? handle : undefined,
      packet: packets.get(event.id),
    };
  }
  return undefined;
}
