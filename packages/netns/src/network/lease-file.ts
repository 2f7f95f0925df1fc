import { statSync } from 'node:fs';
import { type Lease, type Leases, LeaseTable } from './lease.js';
import { locked } from './lock.js';
import { Pool, type PoolOptions } from './pool.js';
import { broken, readRecord, writeRecord } from './record.js';

/** What the file holds. */
interface Document {
  leases: Lease[];
  /** Of each subnet the address to be given out next. */
  next: Record<string, string>;
}

/** Leases of a network that several processes have open: a file, changed under a lock, replaced whole. */
export class LeaseFile implements Leases {
  readonly #path: string;
  readonly #lock: string;
  readonly #subnets: readonly PoolOptions[];
  #seen: { stamp: string; leases: readonly Lease[] } | undefined;

  /**
   * @param path - of the file; where there is none, there are no leases
   * @param lock - file of the lock
   * @param subnets - what addresses are taken from
   */
  constructor(path: string, lock: string, subnets: readonly PoolOptions[]) {
    this.#path = path;
    this.#lock = lock;
    this.#subnets = subnets;
  }

  change<T>(work: (table: LeaseTable, save: () => void) => T): T {
    return locked(this.#lock, () => {
      const { leases, next } = this.#read();
      const pools = this.#subnets.map((subnet) => new Pool(subnet));
      for (const pool of pools) {
        const own = leases.map((lease) => (pool.family === 4 ? lease.ip : lease.ip6));
        pool.restore(
          own.filter((address) => address !== undefined),
          next[pool.subnet],
        );
      }
      const table = new LeaseTable(pools, leases);
      let written = JSON.stringify(leases);
      const save = () => {
        const text = JSON.stringify(table.leases);
        if (text === written) return;
        writeRecord(this.#path, {
          leases: table.leases,
          next: Object.fromEntries(pools.map((p) => [p.subnet, p.next])),
        });
        written = text;
      };
      try {
        return work(table, save);
      } finally {
        save();
      }
    });
  }

  list(): readonly Lease[] {
    // A name server asks for them at every question.
    const stamp = this.#stamp();
    if (this.#seen?.stamp !== stamp) this.#seen = { stamp, leases: this.#read().leases };
    return this.#seen.leases;
  }

  #stamp(): string {
    const stat = statSync(this.#path, { bigint: true, throwIfNoEntry: false });
    return stat ? `${stat.ino} ${stat.mtimeNs} ${stat.size}` : '';
  }

  #read(): Document {
    const document = readRecord(this.#path);
    if (document === undefined) return { leases: [], next: {} };
    if (!isDocument(document)) throw broken(this.#path, 'it holds no leases');
    return document;
  }
}

function isDocument(value: unknown): value is Document {
  const { leases, next } = value as Partial<Document>;
  return Array.isArray(leases) && leases.every(isLease) && typeof next === 'object' && next !== null;
}

function isLease(value: unknown): value is Lease {
  const lease = value as Partial<Record<keyof Lease, unknown>> | null;
  if (typeof lease !== 'object' || lease === null) return false;
  const texts = [lease.id, lease.link, lease.mac, lease.owner, lease.ip ?? '', lease.ip6 ?? ''];
  return (
    texts.every((text) => typeof text === 'string') &&
    /^[0-9a-f]{14}$/.test(lease.id as string) &&
    typeof lease.netns === 'number' &&
    Array.isArray(lease.names) &&
    Array.isArray(lease.ports)
  );
}
