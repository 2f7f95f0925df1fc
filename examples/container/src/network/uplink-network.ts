import { spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { namespaces, UserNamespace } from '@iso/namespaces';
import { NetNS } from '@iso/netns';
import { type Publication, publishPort, readResolvConf, Sandbox, Uplink } from '@iso/netns/network';
import type { Part } from '@iso/sys';
import { UsageError } from '../options.js';
import { HOSTS, type NetworkOwner, type NetworkSettings } from './container-network.js';

/**
 * The network of a plain user's container: its own, in the container's user namespace, which a program passes on to that of the machine.
 * Its ports are published by proxy. Disposing ends both.
 */
export class UplinkNetwork implements AsyncDisposable {
  /** Owns the network; the container's. */
  readonly userns: UserNamespace;
  /** For the launch: the container is in the user namespace already. */
  readonly netns: Part;
  readonly hosts: string;
  readonly resolvConf: string;
  readonly #box: NetNS;
  readonly #machine: NetNS;
  readonly #ports: Publication[] = [];
  #sandbox: Sandbox | undefined;
  #uplink: Uplink | undefined;

  private constructor(directory: string) {
    if (process.getuid?.() === 0) throw new UsageError('--network pasta and slirp4netns are for plain users');
    this.hosts = join(directory, 'hosts');
    this.resolvConf = join(directory, 'resolv.conf');
    this.userns = UserNamespace.create('root');
    this.#box = NetNS.create({ owner: this.userns.fd });
    this.#machine = NetNS.self();
    this.netns = namespaces({ net: { fd: this.#box.fd } });
  }

  /**
   * Makes it, and starts the program; what fails leaves nothing.
   *
   * @param program - that passes packets on
   * @param settings - names and ports
   * @param owner - the container
   * @returns it, with its ports published
   * @throws UnsupportedError where the program is missing; KernelError `EIO` with its words, `EADDRINUSE` …
   */
  static async create(
    program: 'pasta' | 'slirp4netns',
    settings: Pick<NetworkSettings, 'dns' | 'dnsSearch' | 'addHosts' | 'publish'>,
    owner: NetworkOwner,
  ): Promise<UplinkNetwork> {
    const made = new UplinkNetwork(owner.directory);
    try {
      await made.#start(program, settings, owner.hostname);
      return made;
    } catch (error) {
      await made[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #start(
    program: 'pasta' | 'slirp4netns',
    { dns, dnsSearch, addHosts, publish }: Pick<NetworkSettings, 'dns' | 'dnsSearch' | 'addHosts' | 'publish'>,
    hostname: string,
  ): Promise<void> {
    if (addHosts.some(({ address }) => address === 'host-gateway'))
      throw new UsageError('--add-host with host-gateway needs a network, such as --network bridge');
    const own = readResolvConf(existsSync('/etc/resolv.conf') ? readFileSync('/etc/resolv.conf', 'utf8') : '');
    const servers = dns.length ? dns : own.servers;
    const extraHosts: Record<string, string[]> = { [hostname]: ['127.0.0.1'] };
    for (const { name, address } of addHosts) extraHosts[name] = [...(extraHosts[name] ?? []), address];
    // As docker: its ports and its pings are its own.
    this.#box.sysctl.set('net.ipv4.ip_unprivileged_port_start', 0);
    writeFileSync(this.hosts, HOSTS, { mode: 0o644 });
    this.#sandbox = await Sandbox.create({
      netns: this.#box,
      hosts: this.hosts,
      extraHosts,
      resolvConf: this.resolvConf,
      dns: { search: dnsSearch.length ? dnsSearch : own.search },
      // Asked from the machine's own network: its servers may listen on its loopback.
      nameServer: servers.length ? { forward: { from: this.#machine, servers } } : {},
    });
    this.#uplink = await Uplink.start(this.#box, { spawn, program, userns: this.userns.fd });
    for (const port of publish) this.#ports.push(await publishPort(this.#box, { ...port, from: this.#machine }));
  }

  /** Takes the ports back, and ends the program. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      for (const port of this.#ports.splice(0)) await port.close();
      await this.#uplink?.close();
      await this.#sandbox?.close();
    } finally {
      for (const file of [this.hosts, this.resolvConf]) rmSync(file, { force: true });
      for (const each of [this.#machine, this.#box, this.userns]) each.close();
    }
  }
}
