import { KernelError } from '@iso/sys';
import type { NetNS } from '../namespace/netns.js';
import { lacking } from '../tc/tcmsg.js';
import { shaperOf } from './bridge-driver.js';

/** Rates in bits a second; what is not given is not limited. */
export interface Bandwidth {
  /** Towards the endpoint. */
  in?: number;
  /** From the endpoint. */
  out?: number;
}

/** Bytes that may pass at once: as large as segmentation offload makes a packet. */
const LEAST_BURST = 65536;
const LATENCY = 100;
const INGRESS = 'ffff:fff1';

/**
 * Limits what passes a link of the host both ways, while the event loop goes on.
 *
 * @param host - namespace of the link
 * @param on - the link; `id` names the one by which what comes in goes round, `alias` is written on that
 * @param bandwidth - the rates; `{}` lifts what was there
 */
export async function limitBandwidth(
  host: NetNS,
  on: { link: string; id: string; alias?: string },
  { in: towards, out: from }: Bandwidth,
): Promise<void> {
  const { rtnl } = host;
  const { links, qdiscs, filters } = rtnl;
  const { link } = on;
  const shape = (shaped: string, rate: number) => {
    const burst = Math.max(LEAST_BURST, Math.ceil(rate / 8 / 250));
    qdiscs.replace({ link: shaped }, { kind: 'tbf', rate, burst, latency: LATENCY });
  };
  if (towards === undefined) await lifted(rtnl.later(() => qdiscs.remove({ link })));
  else await made(rtnl.later(() => shape(link, towards)));
  const shaper = shaperOf(on.id);
  const shaped = isThere(host, shaper);
  if (from === undefined) {
    if (!shaped) return;
    await lifted(rtnl.later(() => qdiscs.remove({ link, parent: INGRESS })));
    await rtnl.later(() => links.remove(shaper));
    return;
  }
  if (shaped) return rtnl.later(() => shape(shaper, from));
  // What comes in cannot be queued: it takes a way round by a link of its own, on which it leaves.
  const { alias } = on;
  await made(
    rtnl.later(() => links.create({ kind: 'ifb', name: shaper, up: true, ...(alias !== undefined && { alias }) })),
  );
  try {
    await made(
      rtnl.later(() => {
        shape(shaper, from);
        qdiscs.create({ link }, { kind: 'ingress' });
        const action = { kind: 'mirred', how: 'egress redirect', link: shaper } as const;
        filters.create({ link, parent: 'ffff:', priority: 1 }, { kind: 'u32', action });
      }),
    );
  } catch (error) {
    await rtnl.later(() => links.remove(shaper));
    await lifted(rtnl.later(() => qdiscs.remove({ link, parent: INGRESS })));
    throw error;
  }
}

/** What was not there is lifted already. */
async function lifted(removed: Promise<void>): Promise<void> {
  await removed.catch((error) => {
    if (!KernelError.is(error, 'ENOENT', 'EINVAL')) throw error;
  });
}

async function made(sent: Promise<void>): Promise<void> {
  await sent.catch((error) => {
    throw lacking('a limit of bandwidth: tbf, ifb, ingress, u32 and mirred', error);
  });
}

function isThere(host: NetNS, link: string): boolean {
  try {
    host.rtnl.links.index(link);
    return true;
  } catch (error) {
    if (KernelError.is(error, 'ENODEV')) return false;
    throw error;
  }
}
