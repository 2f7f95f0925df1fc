import { KernelError } from '@iso/sys';
import type { Flow } from '../../conntrack/index.js';
import { type Family, familyOf, ipNumber, rangeOf } from '../../ip/ip.js';
import type { GivenAddress } from '../dns/addresses.js';
import type { NamePolicy } from '../dns/policy.js';
import { type Allowed, matchesName, type Ports, parseAllowed } from './allow.js';
import type { EgressRules, Grant, Refusals } from './rules.js';

/** Whom an endpoint may reach. */
export interface EgressOptions {
  /**
   * `ADDRESS[/LENGTH]`, `NAME` or `*.NAME` (those below it), then `:PORT` or, of addresses, `:FROM-TO`, then `/tcp` or `/udp`.
   * `[2001:db8::/32]:443` for IPv6 with a port. Empty is nobody.
   */
  allow: readonly string[];
}

/** What did not leave. */
export interface EgressStats {
  /** Packets to those who are not on the list. */
  refused: Refusals;
  /** Frames with addresses that are not the endpoint's. */
  forged: Refusals;
  /** Questions for names that are not on the list. */
  names: number;
}

const ENOTCONN = 107;
/** An answer counts a little longer than it says: who looks up first connects after. */
const GRACE = 5;
const LONGEST = 86_400;
const NAMES = 4096;
const ADDRESSES = 256;
const PROTOCOLS: Readonly<Record<number, 'tcp' | 'udp'>> = { 6: 'tcp', 17: 'udp' };

/** Where no name may lead: to the machine itself, to all on a wire, to nobody. */
const NOWHERE = [
  '0.0.0.0/8',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/3',
  '::/127',
  '::ffff:0:0/96',
  'fe80::/10',
  'ff00::/8',
].map((prefix) => rangeOf(prefix));

/**
 * The list of those whom an endpoint may reach beyond its network; `Endpoint.egress` makes it. Its neighbours in the network it
 * reaches as before (see `isolated`), and whoever connects to it gets answers; anything else is refused, and counted: other networks,
 * the host's own services, the name servers of others. Names count for addresses that a `NameServer` with this list has answered, for
 * as long as the answer does; it answers for no other names.
 */
export class Egress implements NamePolicy, AsyncDisposable {
  readonly #rules: EgressRules;
  readonly #lift: () => void;
  #allow: readonly string[] = [];
  #parsed: readonly Allowed[] = [];
  /** Addresses of names, and when their answers end, in milliseconds of this process; the last that were asked for. */
  readonly #answers = new Map<string, Map<string, number>>();
  #names = 0;
  #past: { sent: Refusals; forged: Refusals } = {
    sent: { packets: 0n, bytes: 0n },
    forged: { packets: 0n, bytes: 0n },
  };
  /** One after the other: each looks at what is there. */
  #last: Promise<unknown> = Promise.resolve();
  #ended = false;
  #closed: Promise<void> | undefined;

  private constructor(rules: EgressRules, lift: () => void) {
    this.#rules = rules;
    this.#lift = lift;
  }

  /** @internal */
  static async create(
    parts: { rules: () => Promise<EgressRules>; lift: () => void },
    options: EgressOptions,
  ): Promise<Egress> {
    const parsed = options.allow.map(parseAllowed);
    const egress = new Egress(await parts.rules(), parts.lift);
    await egress.#rules.create(parsed);
    egress.#is(options, parsed);
    await egress.#forget();
    return egress;
  }

  #is({ allow }: EgressOptions, parsed: readonly Allowed[]): void {
    this.#allow = [...allow];
    this.#parsed = parsed;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => {});
    return done;
  }

  /** The list, as it was given. */
  get allow(): readonly string[] {
    return this.#allow;
  }

  /**
   * Changes the list: connections that it no longer allows end, others go on. The event loop goes on too, meanwhile.
   *
   * @param options - the new list
   * @returns done when it is in force; of several the last one is
   * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what is no destination; then the old one stays
   * @throws KernelError `ENOTCONN` where the list was lifted
   */
  async set(options: EgressOptions): Promise<void> {
    const parsed = options.allow.map(parseAllowed);
    await this.#inTurn(async () => {
      if (this.#ended) throw new KernelError(ENOTCONN, { syscall: 'sendto', call: 'a list that was lifted' });
      const past = this.#counted();
      const now = performance.now();
      const grants = [...this.#answers].flatMap(([name, addresses]) =>
        [...addresses].flatMap(([address, until]) =>
          until > now ? grantsOf(parsed, name, address, Math.ceil(until - now)) : [],
        ),
      );
      await this.#rules.replace(parsed, grants);
      this.#past = past;
      this.#is(options, parsed);
      await this.#forget();
    });
  }

  /** {@inheritDoc NamePolicy.permits} */
  permits(name: string): boolean {
    return this.#parsed.some((entry) => entry.kind === 'name' && matchesName(entry, name));
  }

  /** {@inheritDoc NamePolicy.answered} */
  answered(name: string, given: readonly GivenAddress[]): Promise<void> {
    return this.#inTurn(() => this.#answered(name, given));
  }

  async #answered(name: string, given: readonly GivenAddress[]): Promise<void> {
    if (this.#ended) return;
    const now = performance.now();
    const known = this.#answers.get(name) ?? new Map<string, number>();
    // The last asked for is the last to be forgotten.
    this.#answers.delete(name);
    this.#answers.set(name, known);
    if (this.#answers.size > NAMES) this.#answers.delete(this.#answers.keys().next().value as string);
    const grants = given.slice(0, ADDRESSES).flatMap(({ address, ttl }) => {
      if (nowhere(address)) return [];
      const timeout = 1000 * (Math.min(ttl, LONGEST) + GRACE);
      known.delete(address);
      known.set(address, now + timeout);
      if (known.size > ADDRESSES) known.delete(known.keys().next().value as string);
      return grantsOf(this.#parsed, name, address, timeout);
    });
    await this.#rules.grant(grants);
  }

  /** {@inheritDoc NamePolicy.refused} */
  refused(): void {
    this.#names += 1;
  }

  /** What was refused since the list was made. */
  stats(): EgressStats {
    const { sent, forged } = this.#ended ? this.#past : this.#counted();
    return { refused: sent, forged, names: this.#names };
  }

  /**
   * Lifts it: the endpoint reaches everybody again. Again does nothing.
   *
   * @returns done when its rules are gone
   */
  close(): Promise<void> {
    this.#closed ??= this.#inTurn(async () => {
      if (this.#ended) return;
      this.#past = this.#counted();
      await this.#rules.remove();
      this.#ended = true;
      this.#lift();
    });
    return this.#closed;
  }

  /** Its rules end at this moment, with the endpoint or with those of the network. @internal */
  end(): void {
    if (this.#ended) return;
    this.#past = this.#counted();
    this.#ended = true;
    this.#lift();
  }

  /** The same as {@link Egress.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #counted(): { sent: Refusals; forged: Refusals } {
    const { sent, forged } = this.#rules.refusals();
    const { sent: before, forged: forgedBefore } = this.#past;
    // Rules on forgery are never replaced, so that they count from the start.
    return {
      sent: { packets: before.packets + sent.packets, bytes: before.bytes + sent.bytes },
      forged: forged.packets >= forgedBefore.packets ? forged : forgedBefore,
    };
  }

  /** What the kernel remembers as begun goes on unasked: what may not is forgotten, and looked at anew. */
  async #forget(): Promise<void> {
    await this.#rules.forget(({ original }: Flow) => {
      const { destination, protocol, destinationPort } = original;
      return !this.#reaches(destination, PROTOCOLS[protocol], destinationPort);
    });
  }

  /** Whether the list allows a destination, be it by a name that led there before. */
  #reaches(address: string, protocol: 'tcp' | 'udp' | undefined, port: number | undefined): boolean {
    const through = (ports: Ports | undefined) =>
      !ports ||
      (protocol !== undefined && port !== undefined && ports.protocols.includes(protocol) && within(port, ports));
    return this.#parsed.some((entry) => {
      if (!through(entry.ports)) return false;
      if (entry.kind === 'addresses') return contains(entry.prefix, address);
      return [...this.#answers].some(([name, addresses]) => matchesName(entry, name) && addresses.has(address));
    });
  }
}

function grantsOf(list: readonly Allowed[], name: string, address: string, timeout: number): Grant[] {
  const family = familyOf(address);
  return list.flatMap((entry) =>
    entry.kind === 'name' && matchesName(entry, name) ? [{ address, family, ports: entry.ports, timeout }] : [],
  );
}

function within(port: number, { from, to }: Ports): boolean {
  return port >= from && port <= to;
}

function contains(prefix: string, address: string): boolean {
  const { family, first, last } = rangeOf(prefix);
  const number = ipNumber(address);
  return family === familyOf(address) && number >= first && number <= last;
}

function nowhere(address: string): boolean {
  const family: Family = familyOf(address);
  const number = ipNumber(address);
  return NOWHERE.some((range) => range.family === family && number >= range.first && number <= range.last);
}
