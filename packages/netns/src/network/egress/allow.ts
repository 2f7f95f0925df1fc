import { isIP } from 'node:net';
import { invalid } from '@iso/sys';
import { type Family, parsePrefix, rangeOf } from '../../ip/ip.js';

/** Ports of a destination; of both transport protocols unless one is named. */
export interface Ports {
  protocols: readonly ('tcp' | 'udp')[];
  from: number;
  to: number;
}

/** Addresses that may be reached. */
interface AllowedAddresses {
  kind: 'addresses';
  family: Family;
  prefix: string;
  /** Undefined for all, and for what has no ports. */
  ports: Ports | undefined;
}

/** A name that may be asked for, and whose addresses may be reached for as long as the answer counts. */
export interface AllowedName {
  kind: 'name';
  /** Lower case, without `*.`. */
  name: string;
  /** The names below it, instead of itself. */
  below: boolean;
  ports: Ports | undefined;
}

/** What may be reached. */
export type Allowed = AllowedAddresses | AllowedName;

const LABEL = /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/;
const LONGEST = 253;

/**
 * Reads one entry of a list of what may be reached: `ADDRESS[/LENGTH]` or `NAME` or `*.NAME`, then `:PORT` or `:FROM-TO`, then `/tcp` or
 * `/udp`. IPv6 addresses stand in brackets where a port follows: `[2001:db8::/32]:443`.
 *
 * @param text - for example `192.0.2.0/24:443/tcp`
 * @returns its parts
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what is none of these
 */
export function parseAllowed(text: string): Allowed {
  const refuse = (why: string) =>
    invalid(
      `not a destination: ${JSON.stringify(text)}, ${why}: it is ADDRESS[/LENGTH] or NAME, then [:PORT[-PORT]][/tcp|/udp]`,
    );
  const [, rest, protocol] = /^(.*?)(?:\/(tcp|udp))?$/s.exec(text) as unknown as [string, string, string | undefined];
  const bracketed = /^\[([^[\]]*)\](?::(.*))?$/s.exec(rest);
  // What holds several colons is an address without a port.
  const plain = /^([^:]*)(?::([^:]*))?$/s.exec(rest);
  const host = bracketed?.[1] ?? plain?.[1] ?? rest;
  const ports = bracketed ? bracketed[2] : plain?.[2];
  if (protocol !== undefined && ports === undefined) throw refuse('a protocol goes with a port');
  const allowed = ports === undefined ? undefined : portsOf(ports, protocol);
  if (allowed === null) throw refuse(`${JSON.stringify(ports)} is no port from 1 to 65535, nor a range of them`);
  if (bracketed || isIP(host.split('/')[0] as string)) {
    const { family } = parsePrefix(host);
    const { first, length } = rangeOf(host);
    if (rangeOf({ family, address: parsePrefix(host).address, length: family === 4 ? 32 : 128 }).first !== first)
      throw refuse(`its address has bits beyond its length of ${length}`);
    return { kind: 'addresses', family, prefix: host, ports: allowed };
  }
  const below = host.startsWith('*.');
  const name = (below ? host.slice(2) : host).toLowerCase().replace(/\.$/, '');
  const labels = name.split('.');
  // A last label of digits would be a malformed address.
  if (name.length > LONGEST || !labels.every((label) => LABEL.test(label)) || /^\d+$/.test(labels.at(-1) as string))
    throw refuse(`${JSON.stringify(host)} is neither an address nor a name`);
  if (allowed && allowed.from !== allowed.to) throw refuse('a range of ports goes with addresses');
  return { kind: 'name', name, below, ports: allowed };
}

/** Whether a name is one that is meant. */
export function matchesName({ name, below }: AllowedName, asked: string): boolean {
  return below ? asked.endsWith(`.${name}`) : asked === name;
}

function portsOf(text: string, protocol: string | undefined): Ports | null {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text);
  if (!match) return null;
  const from = Number(match[1]);
  const to = Number(match[2] ?? match[1]);
  if (from < 1 || to > 65535 || from > to) return null;
  const protocols = protocol === undefined ? (['tcp', 'udp'] as const) : [protocol as 'tcp' | 'udp'];
  return { protocols, from, to };
}
