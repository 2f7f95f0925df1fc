import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { invalid, KernelError } from '@iso/sys';
import { NetNS } from '../namespace/netns.js';
import type { NetworkConfig, NetworkDriver } from './driver.js';
import { poolsOf } from './host.js';
import { LeaseFile } from './lease-file.js';
import { locked } from './lock.js';
import { configOf, driverOf, Network, type NetworkOptions, ownDrivers } from './network.js';
import type { Pool } from './pool.js';
import { broken, readRecord, UNFINISHED, writeRecord } from './record.js';

/** Where networks are kept. */
export interface NetworksOptions {
  /** Made where it is missing, for its user only. On a file system that forgets at a restart, as the kernel does: /run. */
  directory: string;
  /** Namespace that plays the host; default this process's. */
  host?: NetNS;
  /** Drivers besides `bridge`, `macvlan`, `ipvlan`. */
  drivers?: readonly NetworkDriver[];
}

const ENOENT = 2;
const EEXIST = 17;
const LONGEST_NAME = 200;

/**
 * Networks that outlive the process that made them, and are open in several at once: a directory with a record for each, and its leases.
 * An address belongs to a namespace, and comes back when that is gone, whoever attached it. Published ports belong to the
 * process that published them. What one process does, others see at once.
 *
 * The rules of such a network belong to nobody: unlike those of {@link Network.create}, `nft flush ruleset` takes them away, until
 * somebody opens the network again.
 *
 * @example
 * ```ts root
 * import { mkdtempSync, rmSync } from 'node:fs';
 * import { NetNS } from '@iso/netns';
 * import { Networks } from '@iso/netns/network';
 * using host = NetNS.create();
 * const directory = mkdtempSync('/tmp/networks-');
 * using networks = Networks.open({ directory, host });
 * networks.create({ name: 'app', subnets: ['10.50.0.0/24'] }).close();
 * // In another process:
 * using box = NetNS.create();
 * using app = networks.get('app');
 * await app.attach(box, { names: ['web'] });
 * if (app.members[0]?.names[0] !== 'web') throw new Error('not attached');
 * await app.find(box).detach();
 * networks.remove('app');
 * rmSync(directory, { recursive: true });
 * ```
 */
export class Networks implements Disposable {
  readonly #directory: string;
  readonly #host: NetNS;
  readonly #ownsHost: boolean;
  readonly #drivers: readonly NetworkDriver[];

  private constructor(options: NetworksOptions) {
    this.#directory = options.directory;
    this.#ownsHost = options.host === undefined;
    this.#host = options.host ?? NetNS.self();
    this.#drivers = [...(options.drivers ?? []), ...ownDrivers];
  }

  /**
   * Opens a directory of networks.
   *
   * @param options - the directory; the host
   * @returns them
   * @throws the error of mkdir(2), `EACCES` …
   */
  static open(options: NetworksOptions): Networks {
    mkdirSync(options.directory, { recursive: true, mode: 0o700 });
    return new Networks(options);
  }

  /**
   * Makes a network, and opens it.
   *
   * @param options - as {@link Network.create} takes them; `host` is that of all networks here
   * @returns the network, to be closed; it is kept
   * @throws KernelError `EEXIST` where there is one of that name, or its bridge; `EADDRINUSE` where a subnet overlaps that of another
   * network, or what the host has a route to; nothing is left behind
   */
  create(options: NetworkOptions & { host?: never }): Network {
    const path = this.#path(options.name);
    const driver = driverOf(options, this.#drivers);
    if (!this.#drivers.includes(driver))
      throw invalid(`the driver ${driver.name} is not one of those that are opened here`);
    return this.#locked(() => {
      if (readRecord(path))
        throw new KernelError(EEXIST, { syscall: 'open', path, hint: `there is a network ${options.name}` });
      const link = driver.link?.(configOf(options, driver, []));
      const networks = this.list().flatMap(({ name, subnets }) => subnets.map(({ subnet }) => ({ name, subnet })));
      const pools = poolsOf(this.#host, options, { networks, ...(driver.name !== 'bridge' && { link }) });
      const config = configOf(
        options,
        driver,
        pools.map((pool) => pool.options),
      );
      // Leases of one that somebody removed by hand.
      rmSync(leasesOf(path), { force: true });
      writeRecord(path, config);
      try {
        return this.#open(config, path, pools);
      } catch (error) {
        rmSync(path, { force: true });
        throw error;
      }
    });
  }

  /**
   * Opens a network. What it needs on the host and is missing there, after a restart, is made again.
   *
   * @param name - of the network
   * @returns it, to be closed
   * @throws KernelError `ENOENT` where there is none; `EADDRINUSE` where the host routes a subnet of it elsewhere by now
   */
  get(name: string): Network {
    const path = this.#path(name);
    return this.#locked(() => {
      const config = this.config(name);
      const driver = driverOf(config, this.#drivers);
      const pools = poolsOf(this.#host, config, { link: driver.link?.(config) });
      return this.#open(config, path, pools);
    });
  }

  /**
   * What a network is made of.
   *
   * @param name - of the network
   * @returns its record
   * @throws KernelError `ENOENT` where there is none, `EBADMSG` where somebody else wrote it
   */
  config(name: string): NetworkConfig {
    const path = this.#path(name);
    const config = readRecord(path);
    if (!config) throw new KernelError(ENOENT, { syscall: 'open', path, hint: `there is no network ${name}` });
    if (!isConfig(config) || config.name !== name) throw broken(path, `it is no record of a network ${name}`);
    return config;
  }

  /**
   * The networks that there are.
   *
   * @returns their records, by name
   */
  list(): NetworkConfig[] {
    const names = readdirSync(this.#directory).flatMap((file) => nameOf(file) ?? []);
    return names.sort().flatMap((name) => {
      try {
        return [this.config(name)];
      } catch (error) {
        // Removed meanwhile.
        if (KernelError.is(error, 'ENOENT')) return [];
        throw error;
      }
    });
  }

  /**
   * Removes a network, its links and rules.
   *
   * @param name - of the network
   * @throws KernelError `ENOENT` where there is none, `EBUSY` where somebody is in it: the hint says who
   */
  remove(name: string): void {
    using network = this.get(name);
    network.remove(() => {
      const path = this.#path(name);
      rmSync(leasesOf(path), { force: true });
      rmSync(path, { force: true });
    });
  }

  /**
   * Takes back what dead namespaces have, in all networks.
   *
   * @returns the addresses that are free again, by network
   */
  sweep(): Record<string, string[]> {
    // Who was killed while it wrote.
    this.#locked(() => {
      for (const file of readdirSync(this.#directory))
        if (file.endsWith(UNFINISHED)) rmSync(join(this.#directory, file), { force: true });
    });
    const swept = this.list().map(({ name }) => {
      using network = this.get(name);
      return [name, network.sweep()] as const;
    });
    return Object.fromEntries(swept.filter(([, addresses]) => addresses.length));
  }

  #open(config: NetworkConfig, path: string, pools: readonly Pool[]): Network {
    const host = this.#host;
    const driver = driverOf(config, this.#drivers).open(config, { host, pools, kept: true });
    const leases = new LeaseFile(leasesOf(path), this.#lock, config.subnets);
    return new Network({ config, host, ownsHost: false, pools, driver, leases, kept: true });
  }

  #path(name: string): string {
    if (name === '' || name.includes('\0') || Buffer.byteLength(encodeURIComponent(name)) > LONGEST_NAME)
      throw invalid(`not a name of a network: ${JSON.stringify(name)}`);
    return join(this.#directory, `${encodeURIComponent(name)}${RECORD}`);
  }

  #locked<T>(work: () => T): T {
    return locked(this.#lock, work);
  }

  get #lock(): string {
    return join(this.#directory, 'lock');
  }

  /** Lets go of the host's namespace; networks that are open stay so. */
  close(): void {
    if (this.#ownsHost) this.#host.close();
  }

  /** The same as {@link Networks.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

const RECORD = '.network';

/** Of what network a file is the record; what nobody here would call a file is somebody else's. */
function nameOf(file: string): string | undefined {
  if (!file.endsWith(RECORD)) return undefined;
  try {
    const name = decodeURIComponent(file.slice(0, -RECORD.length));
    return `${encodeURIComponent(name)}${RECORD}` === file ? name : undefined;
  } catch {
    return undefined;
  }
}

function leasesOf(path: string): string {
  return `${path}.leases`;
}

function isConfig(value: unknown): value is NetworkConfig {
  const { name, driver, subnets, internal, mtu, options } = value as Partial<Record<keyof NetworkConfig, unknown>>;
  return (
    typeof name === 'string' &&
    typeof driver === 'string' &&
    typeof internal === 'boolean' &&
    (mtu === undefined || typeof mtu === 'number') &&
    typeof options === 'object' &&
    options !== null &&
    Array.isArray(subnets) &&
    subnets.every((subnet) => typeof (subnet as { subnet?: unknown } | null)?.subnet === 'string')
  );
}
