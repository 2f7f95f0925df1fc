import { invalid, KernelError } from '@iso/sys';
import type { NetNS } from '../namespace/netns.js';
import { NameServer, type NameServerOptions } from './dns/server.js';
import type { Endpoint } from './endpoint.js';
import { settingOf } from './host.js';
import { type HostEntry, HostsFile } from './hosts-file.js';
import type { AttachOptions, Network } from './network.js';
import { type ResolvConf, ResolvFile } from './resolv-file.js';

/** A box and its files. */
export interface SandboxOptions {
  netns: NetNS;
  /** What it calls itself. */
  hostname?: string;
  /** Path of the file that is its /etc/hosts. */
  hosts?: string;
  /** Names besides, for the file: `{ 'host.internal': ['10.50.0.1'] }`. */
  extraHosts?: Readonly<Record<string, readonly string[]>>;
  /** Path of the file that is its /etc/resolv.conf. */
  resolvConf?: string;
  /** Domains to search and options for that file. */
  dns?: Partial<ResolvConf>;
  /**
   * Starts a name server inside that knows the members of its networks: `forward` is whom it asks else. By default the
   * servers of `dns` are written into the file themselves.
   */
  nameServer?: Pick<NameServerOptions, 'forward' | 'egress'>;
}

/** How a sandbox joins a network. */
export interface ConnectOptions extends Omit<AttachOptions, 'metric' | 'link'> {
  /** Default the next of `eth0`, `eth1` … that is free. */
  link?: string;
  /** Of several networks that of the highest priority is the way out; of equal ones the one that was connected first. Default 0. */
  priority?: number;
}

const EEXIST = 17;
const ENOENT = 2;
const PRIORITIES = 32768;
/** Networks of one priority. */
const RANKS = 256;
const LOOSE = 2;

/**
 * A namespace in several networks, connected and disconnected while it runs, with the files that programs inside look names up in.
 * What CNM calls a sandbox.
 *
 * @example
 * ```ts root
 * import { NetNS } from '@iso/netns';
 * import { Network, Sandbox } from '@iso/netns/network';
 * using host = NetNS.create();
 * using netns = NetNS.create();
 * using front = Network.create({ name: 'front', host, subnets: ['10.50.0.0/24'] });
 * using back = Network.create({ name: 'back', host, subnets: ['10.60.0.0/24'], internal: true });
 * await using box = await Sandbox.create({ netns });
 * await box.connect(front, { names: ['web'] });
 * if ((await box.connect(back)).link !== 'eth1') throw new Error('not the second link');
 * await box.disconnect(front);
 * ```
 */
export class Sandbox implements AsyncDisposable {
  readonly netns: NetNS;
  readonly #options: SandboxOptions;
  readonly #hosts: HostsFile | undefined;
  readonly #resolv: ResolvFile | undefined;
  readonly #joined = new Map<Network, { endpoint: Endpoint; metric: number }>();
  /** The name server looks into it. */
  readonly #networks: Network[] = [];
  #names: NameServer | undefined;
  /** One after the other: each looks at what is there. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(options: SandboxOptions) {
    this.netns = options.netns;
    this.#options = options;
    this.#hosts = options.hosts === undefined ? undefined : new HostsFile(options.hosts);
    this.#resolv = options.resolvConf === undefined ? undefined : new ResolvFile(options.resolvConf);
  }

  /**
   * Makes one of a namespace, in no network yet; writes its files.
   *
   * @param options - the namespace, the files
   * @returns the sandbox
   * @throws KernelError `EADDRINUSE` where a name server runs inside already; the error of a file
   * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for names and addresses that are none
   */
  static async create(options: SandboxOptions): Promise<Sandbox> {
    const sandbox = new Sandbox(options);
    const { netns, nameServer, dns = {} } = options;
    if (nameServer) sandbox.#names = await NameServer.start({ netns, networks: sandbox.#networks, ...nameServer });
    try {
      const servers = sandbox.#names ? [sandbox.#names.address] : (dns.servers ?? []);
      sandbox.#resolv?.write({ ...dns, servers });
      sandbox.#writeHosts();
    } catch (error) {
      await sandbox.#names?.close();
      throw error;
    }
    return sandbox;
  }

  /** Its places in networks, in the order in which they were connected. */
  get endpoints(): readonly Endpoint[] {
    return [...this.#joined.values()].map(({ endpoint }) => endpoint);
  }

  /** The place whose network is the way out; undefined where there is none. */
  get gateway(): Endpoint | undefined {
    const ways = [...this.#joined].filter(([network]) => !network.internal).map(([, joined]) => joined);
    return ways.sort((a, b) => a.metric - b.metric)[0]?.endpoint;
  }

  /**
   * Joins a network, now.
   *
   * @param network - to join
   * @param options - addresses, names, priority
   * @returns the endpoint
   * @throws KernelError `EEXIST` where it is in that network already; as {@link Network.attach}; nothing is left behind
   */
  connect(network: Network, options: ConnectOptions = {}): Promise<Endpoint> {
    return this.#inTurn(() => this.#connect(network, options));
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => {});
    return done;
  }

  async #connect(network: Network, options: ConnectOptions): Promise<Endpoint> {
    const { priority = 0, link = this.#freeLink(), ...rest } = options;
    if (this.#joined.has(network)) throw refused(EEXIST, `it is in network ${network.name} already`);
    const metric = this.#metric(priority);
    const names = [...(rest.names ?? []), ...(this.#options.hostname === undefined ? [] : [this.#options.hostname])];
    const endpoint = await network.attach(this.netns, { ...rest, link, metric, names: [...new Set(names)] });
    try {
      this.#joined.set(network, { endpoint, metric });
      this.#networks.push(network);
      this.#loosen();
      this.#writeHosts();
      return endpoint;
    } catch (error) {
      this.#forget(network);
      await endpoint.detach();
      throw error;
    }
  }

  /**
   * Leaves a network, now: the network of the next lower priority is the way out then.
   *
   * @param network - that it is in
   * @returns done when the link is gone; the event loop goes on meanwhile
   * @throws KernelError `ENOENT` where it is not in that network; `EBUSY` as {@link Endpoint.detach}
   */
  disconnect(network: Network): Promise<void> {
    return this.#inTurn(() => this.#disconnect(network));
  }

  async #disconnect(network: Network): Promise<void> {
    const joined = this.#joined.get(network);
    if (!joined) throw refused(ENOENT, `it is not in network ${network.name}`);
    await joined.endpoint.detach();
    this.#forget(network);
    this.#writeHosts();
  }

  #forget(network: Network): void {
    this.#joined.delete(network);
    const at = this.#networks.indexOf(network);
    if (at >= 0) this.#networks.splice(at, 1);
  }

  #freeLink(): string {
    const taken = new Set(this.netns.rtnl.links.list().map(({ name }) => name));
    let number = 0;
    while (taken.has(`eth${number}`)) number += 1;
    return `eth${number}`;
  }

  /** The kernel takes the route of the lowest metric, and the next one when that goes with its link. */
  #metric(priority: number): number {
    if (!Number.isInteger(priority) || Math.abs(priority) >= PRIORITIES)
      throw invalid(`a priority is an integer between -${PRIORITIES} and ${PRIORITIES}, not ${priority}`);
    const base = (PRIORITIES - priority) * RANKS;
    const taken = [...this.#joined.values()].map(({ metric }) => metric).filter((m) => m >= base && m < base + RANKS);
    const metric = taken.length ? Math.max(...taken) + 1 : base;
    if (metric >= base + RANKS) throw invalid(`more than ${RANKS} networks of priority ${priority}`);
    return metric;
  }

  /** With several ways in, answers may leave by another link than the one that the question came by. */
  #loosen(): void {
    if (this.#joined.size < 2) return;
    for (const { link } of this.endpoints) {
      const name = `net/ipv4/conf/${link}/rp_filter`;
      if (settingOf(this.netns, name) === '1' || settingOf(this.netns, 'net/ipv4/conf/all/rp_filter') === '1')
        this.netns.sysctl.set(name, LOOSE);
    }
  }

  #writeHosts(): void {
    const { hostname, extraHosts = {} } = this.#options;
    const own: HostEntry[] = this.endpoints.flatMap(({ ip, ip6, names }) =>
      [ip, ip6]
        .filter((address) => address !== undefined)
        .map((address) => ({ address, names: hostname === undefined ? names : [hostname] }))
        .filter((entry) => entry.names.length > 0),
    );
    const extra = Object.entries(extraHosts).flatMap(([name, addresses]) =>
      addresses.map((address) => ({ address, names: [name] })),
    );
    this.#hosts?.write([...own, ...extra]);
  }

  /** Leaves all networks; ends the name server. The files stay as they are. Again does nothing. */
  async close(): Promise<void> {
    try {
      for (const network of [...this.#joined.keys()].reverse()) await this.disconnect(network);
    } finally {
      await this.#names?.close();
    }
  }

  /** The same as {@link Sandbox.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function refused(errno: number, hint: string): KernelError {
  return new KernelError(errno, { syscall: 'connect', call: 'sandbox', hint });
}
