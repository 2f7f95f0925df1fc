import { isIP } from 'node:net';
import { UsageError } from '../options.js';

/** A port of a container, docker's `-p`. */
export interface PublishedPort {
  /** Address of the host. */
  host: string;
  /** Port of the host; a free one where it is absent. */
  hostPort?: number;
  port: number;
  protocol: 'tcp' | 'udp';
}

/** Which network a container is in. */
export type NetworkMode =
  | { kind: 'none' | 'host' }
  | { kind: 'uplink'; program: 'pasta' | 'slirp4netns' }
  | { kind: 'container'; container: string }
  | { kind: 'networks'; names: readonly string[] };

const WORDS = ['none', 'host', 'pasta', 'slirp4netns'] as const;
/** Where ports are published that name no address: only this machine reaches them. */
const HERE = '127.0.0.1';
const MOST_PORTS = 1024;

/**
 * Parses `--network`, which may be given several times.
 *
 * @param words - as typed; default `none`
 * @returns the mode
 * @throws {@link UsageError} for words that do not go together
 */
export function parseNetworks(words: readonly string[]): NetworkMode {
  const [only = 'none'] = words;
  if (words.length < 2) {
    if (only === 'none' || only === 'host') return { kind: only };
    if (only === 'pasta' || only === 'slirp4netns') return { kind: 'uplink', program: only };
    const container = /^container:(.*)$/s.exec(only)?.[1];
    if (container === '') throw new UsageError('--network container: needs the name of a container');
    if (container !== undefined) return { kind: 'container', container };
  }
  for (const word of words) {
    if (isWord(word) || word.startsWith('container:'))
      throw new UsageError(`--network ${word} goes with no other network`);
    checkNetworkName(word);
  }
  const double = words.find((word, i) => words.indexOf(word) < i);
  if (double !== undefined) throw new UsageError(`--network ${double} is given twice`);
  return { kind: 'networks', names: words };
}

/**
 * The name of a network.
 *
 * @param name - as typed
 * @returns it
 * @throws {@link UsageError}
 */
export function checkNetworkName(name: string): string {
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$/.test(name) || isWord(name))
    throw new UsageError(
      `not the name of a network: ${JSON.stringify(name)}, it is [a-zA-Z0-9][a-zA-Z0-9_.-], 63 characters at the most, and none of ${WORDS.join(', ')}`,
    );
  return name;
}

function isWord(text: string): text is (typeof WORDS)[number] {
  return (WORDS as readonly string[]).includes(text);
}

/**
 * Parses docker's `-p [[ADDRESS:][PORT[-PORT]]:]PORT[-PORT][/tcp|/udp]`.
 *
 * @param text - as typed; IPv6 addresses in brackets
 * @returns one entry for each port
 * @throws {@link UsageError} for what is no port, ranges of different lengths
 */
export function parsePublish(text: string): PublishedPort[] {
  const refuse = (why: string) =>
    new UsageError(
      `not a port to publish: ${JSON.stringify(text)}, ${why}: it is [[ADDRESS:]PORT[-PORT]:]PORT[-PORT][/tcp|/udp]`,
    );
  const match = /^(?:(?:(\[[^\]]*\]|[^:[\]]*):)?([^:/]*):)?([^:/]+)(?:\/(.*))?$/s.exec(text);
  if (!match) throw refuse('its parts cannot be told apart');
  const [, address, outside, inside = '', protocol = 'tcp'] = match;
  if (protocol !== 'tcp' && protocol !== 'udp') throw refuse(`there is no protocol ${JSON.stringify(protocol)}`);
  const host = address === undefined || address === '' ? HERE : address.replace(/^\[(.*)\]$/, '$1');
  if (isIP(host) !== (address?.startsWith('[') ? 6 : 4))
    throw refuse(`${JSON.stringify(host)} is no address of this machine`);
  const ports = parseRange(inside);
  if (!ports) throw refuse(`${JSON.stringify(inside)} is no port from 1 to 65535, nor a range of them`);
  if (ports.length > MOST_PORTS) throw refuse(`${MOST_PORTS} ports at once at the most`);
  const hostPorts = outside === undefined || outside === '' ? undefined : parseRange(outside);
  if (hostPorts === null) throw refuse(`${JSON.stringify(outside)} is no port from 1 to 65535, nor a range of them`);
  if (hostPorts && hostPorts.length !== ports.length)
    throw refuse(`${hostPorts.length} ports of the host for ${ports.length} of the container`);
  return ports.map((port, i) => {
    const hostPort = hostPorts?.[i];
    return { host, port, protocol, ...(hostPort !== undefined && { hostPort }) };
  });
}

/**
 * Parses `--expose PORT[-PORT][/tcp|/udp]`.
 *
 * @param text - as typed
 * @returns each port, to be published on a free one by `-P`
 * @throws {@link UsageError}
 */
export function parseExpose(text: string): PublishedPort[] {
  if (text.includes(':')) throw new UsageError(`not a port: ${JSON.stringify(text)}, it is PORT[-PORT][/tcp|/udp]`);
  return parsePublish(text);
}

/** All of a range; null for what is none. */
function parseRange(text: string): number[] | null {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text);
  if (!match) return null;
  const [from, to] = [Number(match[1]), Number(match[2] ?? match[1])];
  if (from < 1 || to > 65535 || from > to) return null;
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

/**
 * Parses `--bandwidth-in` and `--bandwidth-out`: bits a second, with tc's suffixes.
 *
 * @param text - for example `10mbit`, `1.5g`, `64000`
 * @returns bits a second
 * @throws {@link UsageError} for what is no number, or less than 8 or more than 1 Tbit/s
 */
export function parseRate(text: string): number {
  const match = /^(\d{1,12}(?:\.\d{1,6})?)([kmgt]?)(?:bit|bps)?$/i.exec(text);
  // tc's bps are bytes.
  const bytes = /bps$/i.test(text) ? 8 : 1;
  const unit = { '': 1, k: 1e3, m: 1e6, g: 1e9, t: 1e12 }[match?.[2]?.toLowerCase() ?? ''];
  const rate = match && unit ? Math.round(Number(match[1]) * unit * bytes) : Number.NaN;
  if (!(rate >= 8 && rate <= 1e12))
    throw new UsageError(
      `not a rate: ${JSON.stringify(text)}, it is bits a second from 8 to 1tbit, for example 10mbit`,
    );
  return rate;
}

/**
 * Parses docker's `--add-host NAME:ADDRESS`; the address `host-gateway` is the host's in the network that is the way out.
 *
 * @param text - as typed; NAME=ADDRESS too
 * @returns both
 * @throws {@link UsageError}
 */
export function parseAddHost(text: string): { name: string; address: string } {
  const match = /^([^\s:=#]+)[:=](.+)$/s.exec(text);
  const name = match?.[1] ?? '';
  const address = match?.[2]?.replace(/^\[(.*)\]$/, '$1') ?? '';
  if (!isHostName(name) || (address !== 'host-gateway' && !isIP(address)))
    throw new UsageError(`not a host: ${JSON.stringify(text)}, it is NAME:ADDRESS, or NAME:host-gateway`);
  return { name, address };
}

/**
 * The address of a name server.
 *
 * @param text - as typed
 * @returns it
 * @throws {@link UsageError}
 */
export function parseDns(text: string): string {
  if (!isIP(text) || text.includes('%'))
    throw new UsageError(`not the address of a name server: ${JSON.stringify(text)}`);
  return text;
}

/**
 * A domain to search, or an alias.
 *
 * @param option - that it was given with
 * @param text - as typed
 * @returns it
 * @throws {@link UsageError}
 */
export function parseHostName(option: string, text: string): string {
  if (!isHostName(text)) throw new UsageError(`${option} is a name, not ${JSON.stringify(text)}`);
  return text;
}

/**
 * The address of a container.
 *
 * @param option - that it was given with
 * @param text - as typed
 * @param family - which it has to be of
 * @returns it
 * @throws {@link UsageError}
 */
export function parseAddress(option: string, text: string, family: 4 | 6): string {
  if (isIP(text) !== family || text.includes('%'))
    throw new UsageError(`${option} is an IPv${family} address, not ${JSON.stringify(text)}`);
  return text;
}

/**
 * The link-layer address of a container.
 *
 * @param text - as typed
 * @returns it, in lower case
 * @throws {@link UsageError} for what is none, also for one of a group
 */
export function parseMac(text: string): string {
  if (
    !/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text) ||
    Number.parseInt(text.slice(0, 2), 16) & 1 ||
    /^[0:]*$/.test(text)
  )
    throw new UsageError(
      `--mac-address is the address of one link, such as 02:42:ac:11:00:02, not ${JSON.stringify(text)}`,
    );
  return text.toLowerCase();
}

function isHostName(text: string): boolean {
  return text.length <= 253 && /^[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*$/i.test(text);
}
