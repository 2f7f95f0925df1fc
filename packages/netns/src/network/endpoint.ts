import { KernelError, UnsupportedError } from '@iso/sys';
import type { NetNS } from '../namespace/netns.js';
import { type Bandwidth, limitBandwidth } from './bandwidth.js';
import { restricted } from './bridge-driver.js';
import type { DriverNetwork } from './driver.js';
import { Egress, type EgressOptions } from './egress/egress.js';
import type { Lease, LeasedPort, Leases } from './lease.js';
import { ownerLives, ownerMark, ownerText } from './owner.js';
import { type Publication, type Published, type PublishOptions, publish } from './publication.js';

const EBUSY = 16;
const ENOTCONN = 107;

/** What a network gives its endpoint. @internal */
export interface EndpointParts {
  host: NetNS;
  netns: NetNS;
  lease: Lease;
  driver: DriverNetwork;
  leases: Leases;
  /** Whether the network outlives this process. */
  kept: boolean;
  /** Told once, when it left. */
  detached: () => void;
}

/** A namespace's place in a network. Disposing detaches it. */
export class Endpoint implements AsyncDisposable {
  readonly #parts: EndpointParts;
  readonly #publications = new Map<Publication, Published>();
  #egress: Egress | undefined;
  #limited: Promise<void> = Promise.resolve();
  #restricted: Promise<unknown> = Promise.resolve();
  #detached = false;
  #stays = false;

  /** @internal */
  constructor(parts: EndpointParts) {
    this.#parts = parts;
  }

  get netns(): NetNS {
    return this.#parts.netns;
  }

  /** Name of the link inside. */
  get link(): string {
    return this.#parts.lease.link;
  }

  get mac(): string {
    return this.#parts.lease.mac;
  }

  /** Names by which a `NameServer` knows it. */
  get names(): readonly string[] {
    return this.#parts.lease.names;
  }

  /** Addresses without lengths; undefined where the network has none of that family. */
  get ip(): string | undefined {
    return this.#parts.lease.ip;
  }

  get ip6(): string | undefined {
    return this.#parts.lease.ip6;
  }

  /** Name of the link on the host; undefined where its driver has none there. */
  get hostLink(): string | undefined {
    return this.#parts.driver.hostLink?.(this.#parts.lease.id);
  }

  /**
   * Lets the host, and others through it, reach a port, now.
   *
   * @param options - which port, and where on the host
   * @returns the publication, in force
   * @throws KernelError `EADDRINUSE`, whose hint says who has the port; `EADDRNOTAVAIL`, `EACCES`
   * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what is no port or address, or where the kernel cannot translate
   */
  async publish(options: PublishOptions): Promise<Publication> {
    const { host, netns, driver } = this.#parts;
    const address = (family: 4 | 6) => (family === 4 ? this.ip : this.ip6);
    const made = await publish({ host, netns, translation: driver.translation, address }, options);
    const { protocol, hostPort, port } = made;
    const entry: LeasedPort = { protocol, host: made.host, hostPort, port, owner: ownerMark() };
    const close = async () => {
      if (this.#publications.delete(publication)) this.#ports((ports) => ports.filter((each) => !equal(each, entry)));
      await made.close();
    };
    const { end: _end, ...rest } = made;
    const publication: Publication = { ...rest, close, [Symbol.asyncDispose]: close };
    this.#publications.set(publication, made);
    try {
      // It may have left meanwhile.
      if (this.#detached) throw new KernelError(ENOTCONN, { syscall: 'bind', call: `port ${port} of ${this.#text}` });
      this.#ports((ports) => [...ports, entry]);
    } catch (error) {
      await close();
      throw error;
    }
    return publication;
  }

  /**
   * Publishes several ports: all of them, or none.
   *
   * @param list - for each what {@link Endpoint.publish} takes
   * @returns the publications, in that order
   * @throws as {@link Endpoint.publish}; those before are taken back
   */
  async publishAll(list: readonly PublishOptions[]): Promise<Publication[]> {
    const made: Publication[] = [];
    try {
      for (const options of list) made.push(await this.publish(options));
      return made;
    } catch (error) {
      await Promise.all(made.map((publication) => publication.close()));
      throw error;
    }
  }

  #ports(change: (ports: readonly LeasedPort[]) => readonly LeasedPort[]): void {
    this.#parts.leases.change((table) => {
      const lease = table.get(this.#parts.lease.id);
      if (lease) table.set({ ...lease, ports: change(lease.ports) });
    });
  }

  /**
   * Limits its bandwidth, on the host's side, where the namespace cannot lift it. What the kernel does for it may wait for links that others
   * make and remove: the event loop goes on meanwhile.
   *
   * @param bandwidth - in bits a second; `{}` lifts it
   * @returns done when it is in force; of several the last one is
   * @throws UnsupportedError for an endpoint that has no link on the host: of a macvlan, of an ipvlan; without what it takes in the kernel
   */
  limit(bandwidth: Bandwidth): Promise<void> {
    const limited = this.#limited.then(() => this.#limit(bandwidth));
    this.#limited = limited.catch(() => {});
    return limited;
  }

  async #limit(bandwidth: Bandwidth): Promise<void> {
    const { hostLink } = this;
    const { host, lease, kept } = this.#parts;
    if (this.#detached) throw new KernelError(ENOTCONN, { syscall: 'sendto', call: `limit of ${this.#text}` });
    if (hostLink === undefined)
      throw new UnsupportedError(
        'a limit of bandwidth that the namespace cannot lift',
        'this driver has no link on the host',
      );
    await limitBandwidth(host, { link: hostLink, id: lease.id, ...(!kept && { alias: ownerMark() }) }, bandwidth);
  }

  /**
   * Keeps its ways out to a list; again changes that. In a network that is kept the list stays when this process ends: it goes with the
   * endpoint. The event loop goes on meanwhile.
   *
   * @param options - whom it may reach
   * @returns the list, in force: to be given to its `NameServer`, counted and lifted
   * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what is no destination
   * @throws UnsupportedError for an endpoint of another driver than `bridge`, or without nf_tables of bridges
   * @throws KernelError `ENOTCONN` where it left
   */
  egress(options: EgressOptions): Promise<Egress> {
    const list = this.#restricted.then(() => this.#restrict(options));
    this.#restricted = list.catch(() => {});
    return list;
  }

  async #restrict(options: EgressOptions): Promise<Egress> {
    const { hostLink } = this;
    const { driver, lease } = this.#parts;
    if (this.#detached) throw new KernelError(ENOTCONN, { syscall: 'sendto', call: `list of ${this.#text}` });
    if (hostLink === undefined || !driver.egress)
      throw new UnsupportedError('a list of whom an endpoint may reach', 'this driver has no rules on the host');
    if (this.#egress) await this.#egress.set(options);
    else {
      const rules = () => (driver.egress as NonNullable<typeof driver.egress>)(restricted(lease, hostLink));
      const lift = () => {
        this.#egress = undefined;
      };
      this.#egress = await Egress.create({ rules, lift }, options);
    }
    return this.#egress as Egress;
  }

  /**
   * Lets it stay when this object, its network or this process ends: it goes with its namespace, or when somebody finds it
   * (`network.find()`) and detaches it. For networks that are kept.
   */
  keep(): void {
    this.#stays = this.#parts.kept;
  }

  /**
   * Leaves the network: unpublishes, gives the addresses back. Again does nothing. Removing the link takes the kernel up to 20 ms, in
   * which the event loop goes on.
   *
   * @returns done when the link is gone, and the ports are free
   * @throws KernelError `EBUSY` where another process publishes ports of it: the hint says which
   */
  async detach(): Promise<void> {
    this.#judge();
    if (this.#detached) return;
    await this.#leave(this.#end((publication) => publication.close()));
  }

  async #leave(publications: readonly Promise<void>[]): Promise<void> {
    const { driver, host, lease } = this.#parts;
    try {
      // A limit that is being made belongs to the link; until that is gone, a list holds.
      const left = Promise.all([this.#limited, this.#restricted])
        .then(() => leaveLater(driver, host, lease, this.#namespace))
        .then(() => (this.#egress ? this.#egress.close() : driver.liftLater?.(lease)));
      const outcomes = await Promise.allSettled([left, ...publications]);
      for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
    } finally {
      this.#release();
    }
  }

  /** Its network ends, and the rules of that with it: detaches it at once, unless it is to stay. @internal */
  close(): void {
    if (this.#stays) {
      for (const made of this.#publications.values()) void made.end();
      return;
    }
    this.#judge();
    if (this.#detached) return;
    for (const ended of this.#end((made) => made.end())) void ended;
    this.#egress?.end();
    const { driver, lease } = this.#parts;
    try {
      driver.leave(lease, this.#namespace);
      driver.lift?.(lease);
    } finally {
      this.#release();
    }
  }

  /** The same as {@link Endpoint.close} while the event loop goes on. @internal */
  async closeLater(): Promise<void> {
    if (this.#stays) {
      await Promise.all([...this.#publications.values()].map((made) => made.end()));
      return;
    }
    this.#judge();
    if (this.#detached) return;
    await this.#leave(this.#end((made) => made.end()));
  }

  /** Its namespace ended: all else is done already. @internal */
  ended(): void {
    if (this.#detached) return;
    void this.#end((publication) => publication.close());
    this.#egress?.end();
    this.#parts.detached();
  }

  /** Whoever publishes ports of it has to let go first. */
  #judge(): void {
    if (this.#detached) return;
    const { leases, lease } = this.#parts;
    const ports = leases.list().find(({ id }) => id === lease.id)?.ports ?? [];
    const self = ownerMark();
    const other = ports.find(({ owner }) => owner !== self && ownerLives(owner));
    if (other) {
      const hint = `${ownerText(other.owner)} publishes its port ${other.port}`;
      throw new KernelError(EBUSY, { syscall: 'detach', call: this.#text, hint });
    }
  }

  get #text(): string {
    const { names, ip, ip6 } = this.#parts.lease;
    return `endpoint ${names[0] ?? ip ?? ip6}`;
  }

  /** What it has ends; of its ports without a word in the lease, which ends too. */
  #end(unpublish: (publication: Published) => Promise<void>): Promise<void>[] {
    this.#detached = true;
    const publications = [...this.#publications.values()];
    this.#publications.clear();
    return publications.map(unpublish);
  }

  /** A namespace that this process has closed may be gone, and its number somebody else's. */
  get #namespace(): NetNS | undefined {
    return this.netns.fd.closed ? undefined : this.netns;
  }

  #release(): void {
    const { leases, lease, detached } = this.#parts;
    leases.change((table) => table.remove(lease.id));
    detached();
  }

  /** The same as {@link Endpoint.detach}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.detach();
  }
}

/** Removes what a driver made for an endpoint, while the event loop goes on. @internal */
export async function leaveLater(
  driver: DriverNetwork,
  host: NetNS,
  lease: Lease,
  netns: NetNS | undefined,
): Promise<void> {
  let inside: Promise<void> | undefined;
  const outside = host.rtnl.later(() => {
    if (netns) inside = netns.rtnl.later(() => driver.leave(lease, netns));
    else driver.leave(lease, undefined);
  });
  // What went with its namespace meanwhile is gone as it should be.
  for (const outcome of await Promise.allSettled([outside, inside]))
    if (outcome.status === 'rejected' && !KernelError.is(outcome.reason, 'ENODEV')) throw outcome.reason;
}

function equal(a: LeasedPort, b: LeasedPort): boolean {
  return a.protocol === b.protocol && a.host === b.host && a.hostPort === b.hostPort && a.owner === b.owner;
}
