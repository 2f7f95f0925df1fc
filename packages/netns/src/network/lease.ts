import { KernelError } from '@iso/sys';
import type { Pool } from './pool.js';

/** What an endpoint has of its network, as every process that has it open sees it. */
export interface Lease {
  /** 14 hexadecimal digits. */
  id: string;
  /** Inode of its namespace. */
  netns: number;
  /** Name of its link inside. */
  link: string;
  mac: string;
  names: readonly string[];
  ip?: string;
  ip6?: string;
  /** The process that attached it. */
  owner: string;
  /** Its published ports, each with the process that holds it. */
  ports: readonly LeasedPort[];
  /** Its link is being made. */
  joining?: true;
}

/** A published port. */
export interface LeasedPort {
  protocol: 'tcp' | 'udp';
  host: string;
  hostPort: number;
  port: number;
  owner: string;
}

/** The leases of a network, while nobody else changes them. */
export class LeaseTable {
  readonly pools: readonly Pool[];
  readonly #leases: Map<string, Lease>;

  /**
   * @param pools - what addresses are taken from; those of the leases are taken already
   * @param leases - that there are
   */
  constructor(pools: readonly Pool[], leases: readonly Lease[] = []) {
    this.pools = pools;
    this.#leases = new Map(leases.map((lease) => [lease.id, lease]));
  }

  /** All of them. */
  get leases(): Lease[] {
    return [...this.#leases.values()];
  }

  /** One of them. */
  get(id: string): Lease | undefined {
    return this.#leases.get(id);
  }

  /** Adds one, or puts it in the place of what had its id. Its addresses are taken from the pools before. */
  set(lease: Lease): void {
    this.#leases.set(lease.id, lease);
  }

  /** Ends one: its addresses come back. */
  remove(id: string): void {
    const lease = this.#leases.get(id);
    if (!this.#leases.delete(id) || !lease) return;
    for (const pool of this.pools) {
      const address = pool.family === 4 ? lease.ip : lease.ip6;
      if (address !== undefined) pool.release(address);
    }
  }
}

/** Where the leases of a network are. */
export interface Leases {
  /**
   * Changes them; nobody else does so meanwhile.
   *
   * @param work - is given the table; `save` writes it before `work` goes on
   * @returns what `work` returns; where it throws, the table is saved as it is then
   */
  change<T>(work: (table: LeaseTable, save: () => void) => T): T;
  /** As they are now. */
  list(): readonly Lease[];
}

/** Leases of a network that only this process has. */
export class OwnLeases implements Leases {
  readonly #table: LeaseTable;

  constructor(pools: readonly Pool[]) {
    this.#table = new LeaseTable(pools);
  }

  change<T>(work: (table: LeaseTable, save: () => void) => T): T {
    return work(this.#table, () => {});
  }

  list(): readonly Lease[] {
    return this.#table.leases;
  }
}

/** Takes an address of each pool, certain ones where they are named; what was taken is given back where one is refused. */
export function takeAddresses(
  pools: readonly Pool[],
  wanted: { ip?: string; ip6?: string },
): { pool: Pool; address: string }[] {
  const taken: { pool: Pool; address: string }[] = [];
  try {
    for (const pool of pools) {
      const certain = pool.family === 4 ? wanted.ip : wanted.ip6;
      taken.push({ pool, address: certain === undefined ? pool.take() : pool.claim(certain) });
    }
    return taken;
  } catch (error) {
    for (const { pool, address } of taken) pool.release(address);
    throw error;
  }
}

/** Whether an address was refused because somebody has it, who may be dead. */
export function isTaken(error: unknown): boolean {
  return KernelError.is(error, 'EADDRNOTAVAIL', 'EADDRINUSE');
}
