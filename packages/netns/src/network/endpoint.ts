import { KernelError } from '@iso/sys';
import type { NetNS } from '../namespace/netns.js';
import type { Firewall } from './firewall.js';
import type { Bandwidth, Endpoint } from './network.js';
import { ownerMark } from './owner.js';
import { type Publication, type PublishOptions, publish } from './publication.js';

/** Bytes that may pass at once: as large as segmentation offload makes a packet. */
const LEAST_BURST = 65536;
const LATENCY = 100;

/** What a bridge network gives its endpoint. */
export interface EndpointParts {
  host: NetNS;
  netns: NetNS;
  /** Names of the link: on the host, inside. */
  hostLink: string;
  link: string;
  mac: string;
  names: readonly string[];
  ip: string | undefined;
  ip6: string | undefined;
  firewall: Firewall;
  /** Gives back what the network gave. */
  release: () => void;
}

/** A namespace's place in a bridge network: a veth pair. */
export class BridgeEndpoint implements Endpoint {
  readonly #parts: EndpointParts;
  readonly #publications = new Set<Publication>();
  #shaped: string | undefined;
  #detached = false;

  /** @internal */
  constructor(parts: EndpointParts) {
    this.#parts = parts;
  }

  get netns(): NetNS {
    return this.#parts.netns;
  }

  get link(): string {
    return this.#parts.link;
  }

  get mac(): string {
    return this.#parts.mac;
  }

  get names(): readonly string[] {
    return this.#parts.names;
  }

  get ip(): string | undefined {
    return this.#parts.ip;
  }

  get ip6(): string | undefined {
    return this.#parts.ip6;
  }

  /** Name of the link on the host. */
  get hostLink(): string {
    return this.#parts.hostLink;
  }

  /** {@inheritDoc Endpoint.publish} */
  async publish(options: PublishOptions): Promise<Publication> {
    const { host, netns, firewall, ip, ip6 } = this.#parts;
    const address = (family: 4 | 6) => (family === 4 ? ip : ip6);
    const made = await publish({ host, netns, firewall, address }, options);
    const close = async () => {
      this.#publications.delete(publication);
      await made.close();
    };
    const publication: Publication = { ...made, close, [Symbol.asyncDispose]: close };
    this.#publications.add(publication);
    return publication;
  }

  /** {@inheritDoc Endpoint.limit} */
  limit({ in: towards, out: from }: Bandwidth): void {
    const { host, hostLink } = this.#parts;
    const { links, qdiscs, filters } = host.rtnl;
    const shape = (link: string, rate: number) => {
      const burst = Math.max(LEAST_BURST, Math.ceil(rate / 8 / 250));
      qdiscs.replace({ link }, { kind: 'tbf', rate, burst, latency: LATENCY });
    };
    if (towards === undefined) ignoring('ENOENT', () => qdiscs.remove({ link: hostLink }));
    else shape(hostLink, towards);
    if (from === undefined) {
      if (!this.#shaped) return;
      qdiscs.remove({ link: hostLink, parent: 'ffff:fff1' });
      links.remove(this.#shaped);
      this.#shaped = undefined;
      return;
    }
    // What comes in cannot be queued: it takes a way round by a link of its own, on which it leaves.
    if (!this.#shaped) {
      const shaped = `i${hostLink.slice(1)}`;
      links.create({ kind: 'ifb', name: shaped, up: true, alias: ownerMark() });
      this.#shaped = shaped;
      shape(shaped, from);
      qdiscs.create({ link: hostLink }, { kind: 'ingress' });
      const action = { kind: 'mirred', how: 'egress redirect', link: shaped } as const;
      filters.create({ link: hostLink, parent: 'ffff:', priority: 1 }, { kind: 'u32', action });
    } else shape(this.#shaped, from);
  }

  /** {@inheritDoc Endpoint.detach} */
  detach(): void {
    if (this.#detached) return;
    this.#detached = true;
    const { host, hostLink, release } = this.#parts;
    for (const publication of this.#publications) void publication.close();
    // Gone already where the namespace is.
    ignoring('ENODEV', () => host.rtnl.links.remove(hostLink));
    if (this.#shaped) ignoring('ENODEV', () => host.rtnl.links.remove(this.#shaped as string));
    release();
  }

  /** The same as {@link BridgeEndpoint.detach}. */
  [Symbol.dispose](): void {
    this.detach();
  }
}

function ignoring(code: string, work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!KernelError.is(error, code)) throw error;
  }
}
