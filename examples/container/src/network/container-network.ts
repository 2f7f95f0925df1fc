import { once } from 'node:events';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:net';
import { join } from 'node:path';
import { NetNS } from '@iso/netns';
import {
  type Bandwidth,
  type Egress,
  type Endpoint,
  type Network,
  type Networks,
  type PublishOptions,
  readResolvConf,
  Sandbox,
} from '@iso/netns/network';
import { UsageError } from '../options.js';
import { type ControlRequest, serveControl } from './control.js';
import { openNetwork, openNetworks } from './networks.js';
import type { PublishedPort } from './options.js';

/** What a container is given of networks. */
export interface NetworkSettings {
  /** Networks that it is in; the first is its way out. */
  networks: readonly string[];
  /** Addresses in the first of them. */
  ip?: string;
  ip6?: string;
  mac?: string;
  /** Names by which its neighbours find it, besides its own. */
  aliases: readonly string[];
  /** Whom its name server asks; default those of the host. */
  dns: readonly string[];
  dnsSearch: readonly string[];
  addHosts: readonly { name: string; address: string }[];
  publish: readonly PublishedPort[];
  bandwidth: Bandwidth;
  /** Whom it may reach; everybody where it is absent. */
  egress?: readonly string[];
}

/** Whose network it is. */
export interface NetworkOwner {
  id: string;
  name: string;
  hostname: string;
  /** Where its files are kept. */
  directory: string;
}

/** What /etc/hosts begins with. */
export const HOSTS = '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n';

/** The networks that a container is in, for as long as it runs. Disposing leaves them. */
export class ContainerNetwork implements AsyncDisposable {
  readonly netns: NetNS;
  /** Paths of the files that are /etc/hosts and /etc/resolv.conf inside. */
  readonly hosts: string;
  readonly resolvConf: string;
  readonly #settings: NetworkSettings;
  readonly #owner: NetworkOwner;
  readonly #networks: Networks;
  readonly #host: NetNS;
  readonly #open = new Map<string, Network>();
  /** The name server looks into it: until a list is there, no name is passed on. */
  readonly #egress: Egress[] = [];
  #sandbox: Sandbox | undefined;
  #control: Server | undefined;

  private constructor(settings: NetworkSettings, owner: NetworkOwner) {
    this.#settings = settings;
    this.#owner = owner;
    this.hosts = join(owner.directory, 'hosts');
    this.resolvConf = join(owner.directory, 'resolv.conf');
    this.#networks = openNetworks();
    this.#host = NetNS.self();
    this.netns = NetNS.create();
  }

  /**
   * Makes a namespace and joins the networks; what fails leaves nothing.
   *
   * @param settings - which networks, how
   * @param owner - the container
   * @returns it, with its ports published
   * @throws {@link UsageError}, KernelError `EADDRINUSE`, `EADDRNOTAVAIL` …
   */
  static async create(settings: NetworkSettings, owner: NetworkOwner): Promise<ContainerNetwork> {
    const made = new ContainerNetwork(settings, owner);
    try {
      await made.#start();
      return made;
    } catch (error) {
      await made[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #start(): Promise<void> {
    const { netns } = this;
    const { networks, dns, dnsSearch, publish, egress, ip, ip6, mac, aliases } = this.#settings;
    const own = readResolvConf(readFileSync('/etc/resolv.conf', { encoding: 'utf8', flag: 'a+' }));
    // As docker: its ports and its pings are its own.
    netns.sysctl.set('net.ipv4.ip_unprivileged_port_start', 0);
    netns.sysctl.set('net.ipv4.ping_group_range', '0 2147483647');
    for (const name of networks) this.#open.set(name, openNetwork(this.#networks, name));
    writeFileSync(this.hosts, HOSTS, { mode: 0o644 });
    const servers = dns.length ? dns : own.servers;
    this.#sandbox = await Sandbox.create({
      netns,
      hostname: this.#owner.hostname,
      hosts: this.hosts,
      extraHosts: this.#extraHosts(),
      resolvConf: this.resolvConf,
      dns: { search: dnsSearch.length ? dnsSearch : own.search, options: ['ndots:0'] },
      nameServer: {
        ...(servers.length && { forward: { from: this.#host, servers } }),
        ...(egress && { egress: this.#egress }),
      },
    });
    for (const [i, name] of networks.entries()) {
      const first = i === 0 && { ...(ip && { ip }), ...(ip6 && { ip6 }), ...(mac && { mac }) };
      await this.#join(name, { aliases, priority: networks.length - i, ...first });
    }
    if (publish.length) await this.#publish(publish);
    this.#control = await serveControl(this.#owner.directory, (request) => this.#act(request));
  }

  async #join(
    name: string,
    options: { aliases: readonly string[]; priority?: number; ip?: string; ip6?: string; mac?: string },
  ): Promise<Endpoint> {
    const { aliases, ...rest } = options;
    const { egress, bandwidth } = this.#settings;
    const network = this.#open.get(name) as Network;
    const names = [this.#owner.name, this.#owner.id.slice(0, 12), ...aliases];
    const endpoint = await (this.#sandbox as Sandbox).connect(network, { ...rest, names });
    // Before a process is there, or before it can know of the link.
    if (egress) this.#egress.push(await endpoint.egress({ allow: egress }));
    if (bandwidth.in !== undefined || bandwidth.out !== undefined) await endpoint.limit(bandwidth);
    return endpoint;
  }

  async #publish(ports: readonly PublishedPort[]): Promise<void> {
    const { gateway, endpoints } = this.#sandbox as Sandbox;
    const endpoint = gateway ?? (endpoints[0] as Endpoint);
    // Without the kernel's translation on loopback addresses, and by drivers whose endpoints the host does not reach.
    const first = this.#open.get(this.#settings.networks[0] as string) as Network;
    const list = ports.map((port): PublishOptions => {
      const local = port.host.startsWith('127.') || port.host === '::1';
      const four = !port.host.includes(':');
      const has = four ? endpoint.ip !== undefined : endpoint.ip6 !== undefined;
      return { ...port, mode: !local && has && first.config.driver === 'bridge' ? 'nat' : 'proxy' };
    });
    await endpoint.publishAll(list);
  }

  #extraHosts(): Record<string, string[]> {
    const way = [...this.#open.values()].find((network) => !network.internal);
    const hosts: Record<string, string[]> = {};
    for (const { name, address } of this.#settings.addHosts) {
      if (address === 'host-gateway' && !way)
        throw new UsageError(`--add-host ${name}:host-gateway needs a network that is not internal`);
      hosts[name] = [...(hosts[name] ?? []), address === 'host-gateway' ? (way as Network).gateway : address];
    }
    return hosts;
  }

  async #act(request: ControlRequest): Promise<void> {
    const { network: name } = request;
    if (request.verb === 'connect') {
      if (this.#open.has(name)) throw new UsageError(`the container is in network ${name} already`);
      this.#open.set(name, openNetwork(this.#networks, name));
      try {
        const { aliases, ip, ip6 } = request;
        await this.#join(name, { aliases, ...(ip && { ip }), ...(ip6 && { ip6 }) });
      } catch (error) {
        await this.#forget(name);
        throw error;
      }
      return;
    }
    const network = this.#open.get(name);
    if (!network) throw new UsageError(`the container is not in network ${name}`);
    await (this.#sandbox as Sandbox).disconnect(network);
    await this.#forget(name);
  }

  async #forget(name: string): Promise<void> {
    const network = this.#open.get(name);
    this.#open.delete(name);
    await network?.closeAsync();
  }

  /** Leaves the networks, and takes the ports back. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      if (this.#control) {
        const closed = once(this.#control, 'close');
        this.#control.close();
        await closed;
      }
      await this.#sandbox?.close();
    } finally {
      await Promise.all([...this.#open.values()].map((network) => network.closeAsync()));
      for (const file of [this.hosts, this.resolvConf]) rmSync(file, { force: true });
      this.#networks.close();
      this.#host.close();
      this.netns.close();
    }
  }
}
