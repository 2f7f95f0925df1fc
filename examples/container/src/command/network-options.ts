import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import type { ContainerOptions } from '../assemble.js';
import type { NetworkOwner, NetworkSettings } from '../network/container-network.js';
import {
  parseAddHost,
  parseAddress,
  parseDns,
  parseExpose,
  parseHostName,
  parseMac,
  parseNetworks,
  parsePublish,
  parseRate,
} from '../network/options.js';
import { UsageError } from '../options.js';
import { containerDirectory, findContainer } from '../state/record.js';

/** Options of `iso run` that concern networks, as typed. */
export interface NetworkFlags {
  network?: string[];
  publish?: string[];
  publishAll?: boolean;
  expose?: string[];
  ip?: string;
  ip6?: string;
  macAddress?: string;
  dns?: string[];
  dnsSearch?: string[];
  addHost?: string[];
  networkAlias?: string[];
  bandwidthIn?: string;
  bandwidthOut?: string;
  egressAllow?: string[];
}

const collect = (value: string, all: string[] = []) => [...all, value];

/** Adds the options of networks to a command. */
export function networkOptions(command: Command): Command {
  return command
    .option(
      '--network <mode>',
      'none, host, container:NAME, or a network; several of these; of a plain user pasta or slirp4netns',
      collect,
    )
    .option('-p, --publish <port>', '[[ADDRESS:]PORT:]PORT[/tcp|/udp], 127.0.0.1 by default', collect)
    .option('-P, --publish-all', 'publish what is exposed on free ports')
    .option('--expose <port>', 'PORT[/tcp|/udp], for -P', collect)
    .option('--ip <address>', 'IPv4 address in the first network')
    .option('--ip6 <address>', 'IPv6 address in the first network')
    .option('--mac-address <address>', 'link-layer address in the first network')
    .option('--dns <address>', 'name server that is asked', collect)
    .option('--dns-search <domain>', 'domain that is searched', collect)
    .option('--add-host <host>', 'NAME:ADDRESS, or NAME:host-gateway', collect)
    .option('--network-alias <name>', 'a name by which neighbours find it', collect)
    .option('--bandwidth-in <rate>', 'bits a second that it receives, for example 10mbit')
    .option('--bandwidth-out <rate>', 'bits a second that it sends')
    .option(
      '--egress-allow <destination>',
      'ADDRESS[/LENGTH] or NAME or *.NAME, then [:PORT][/tcp|/udp]; or none',
      collect,
    );
}

/** What a container joins, to be disposed when it has ended. */
export interface RunNetwork extends AsyncDisposable {
  /** For `run()`. */
  readonly network: NonNullable<ContainerOptions['network']>;
  readonly hosts: NonNullable<ContainerOptions['hosts']>;
}

/**
 * What was asked for; nothing is done before all of it makes sense.
 *
 * @param flags - as typed
 * @returns joins it, for a container whose image exposes ports, each `PORT[/tcp|/udp]`
 * @throws {@link UsageError}
 */
export function networkOf(
  flags: NetworkFlags,
): (home: string, owner: NetworkOwner, exposed: readonly string[]) => Promise<RunNetwork> {
  const mode = parseNetworks(flags.network ?? []);
  const addHosts = (flags.addHost ?? []).map(parseAddHost);
  const exposedHere = (flags.expose ?? []).flatMap(parseExpose);
  const settings: NetworkSettings = {
    networks: mode.kind === 'networks' ? mode.names : [],
    ...(flags.ip !== undefined && { ip: parseAddress('--ip', flags.ip, 4) }),
    ...(flags.ip6 !== undefined && { ip6: parseAddress('--ip6', flags.ip6, 6) }),
    ...(flags.macAddress !== undefined && { mac: parseMac(flags.macAddress) }),
    aliases: (flags.networkAlias ?? []).map((name) => parseHostName('--network-alias', name)),
    dns: (flags.dns ?? []).map(parseDns),
    dnsSearch: (flags.dnsSearch ?? []).map((name) => parseHostName('--dns-search', name)),
    addHosts,
    publish: [...(flags.publish ?? []).flatMap(parsePublish), ...(flags.publishAll ? exposedHere : [])],
    bandwidth: {
      ...(flags.bandwidthIn !== undefined && { in: parseRate(flags.bandwidthIn) }),
      ...(flags.bandwidthOut !== undefined && { out: parseRate(flags.bandwidthOut) }),
    },
    ...(flags.egressAllow && { egress: parseEgress(flags.egressAllow) }),
  };
  if (mode.kind === 'networks')
    return async (_home, owner, exposed) => {
      // What networks need is loaded for them only.
      const { ContainerNetwork } = await import('../network/container-network.js');
      const published = [...settings.publish, ...(flags.publishAll ? exposed.flatMap(parseExpose) : [])];
      const network = await ContainerNetwork.create({ ...settings, publish: published }, owner);
      return { network, hosts: [], [Symbol.asyncDispose]: () => network[Symbol.asyncDispose]() };
    };
  if (mode.kind === 'uplink') {
    const { program } = mode;
    refuse(flags, onBridges, (option) => `${option} needs a network that is a bridge, which needs root`);
    return async (_home, owner, exposed) => {
      const { UplinkNetwork } = await import('../network/uplink-network.js');
      const published = [...settings.publish, ...(flags.publishAll ? exposed.flatMap(parseExpose) : [])];
      const network = await UplinkNetwork.create(program, { ...settings, publish: published }, owner);
      return { network, hosts: [], [Symbol.asyncDispose]: () => network[Symbol.asyncDispose]() };
    };
  }
  refuse(flags, ofNetworks, (option) => `${option} needs a network, such as --network bridge`);
  if (mode.kind === 'container') {
    if (addHosts.length) throw new UsageError('--add-host is for the container whose network it is');
    return async (home) => joinContainer(home, mode.container);
  }
  const gateway = addHosts.find(({ address }) => address === 'host-gateway');
  if (gateway)
    throw new UsageError(`--add-host ${gateway.name}:host-gateway needs a network, such as --network bridge`);
  return async () => ({ network: mode.kind, hosts: addHosts, [Symbol.asyncDispose]: async () => {} });
}

/** Options that say something of a place on a bridge. */
const onBridges = [
  'ip',
  'ip6',
  'macAddress',
  'networkAlias',
  'bandwidthIn',
  'bandwidthOut',
  'egressAllow',
] as const satisfies readonly (keyof NetworkFlags)[];
/** Options that say something of a network. */
const ofNetworks = ['publish', 'publishAll', ...onBridges, 'dns', 'dnsSearch'] as const;

function refuse(flags: NetworkFlags, which: readonly (keyof NetworkFlags)[], why: (option: string) => string): void {
  const needs = which.find((flag) => flags[flag] !== undefined);
  if (needs === undefined) return;
  throw new UsageError(why(`--${needs.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`));
}

function parseEgress(list: readonly string[]): readonly string[] {
  if (!list.includes('none')) return list;
  if (list.length > 1) throw new UsageError('--egress-allow none goes with no other destination');
  return [];
}

/** The namespace of another container, with its files. */
async function joinContainer(home: string, word: string): Promise<RunNetwork> {
  const { NetNS } = await import('@iso/netns');
  const { id, pid } = findContainer(home, word);
  const netns = NetNS.open({ pid });
  try {
    // Its number may have been given to somebody else meanwhile.
    if (findContainer(home, id).pid !== pid) throw new UsageError(`no such container: ${word}`);
    const file = (name: string) => join(containerDirectory(home, id), name);
    const [hosts, resolvConf] = [file('hosts'), file('resolv.conf')];
    const network = {
      netns,
      shared: true,
      ...(existsSync(hosts) && { hosts }),
      ...(existsSync(resolvConf) && { resolvConf }),
    };
    return { network, hosts: [], [Symbol.asyncDispose]: async () => netns.close() };
  } catch (error) {
    netns.close();
    throw error;
  }
}
