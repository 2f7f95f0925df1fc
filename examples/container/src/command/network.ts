import type { NetworkConfig, NetworkOptions, PoolOptions } from '@iso/netns/network';
import { KernelError } from '@iso/sys';
import { Command, Option } from 'commander';
import { formatted, show } from '../inspect/show.js';
import { askControl } from '../network/control.js';
import { checkNetworkName, parseAddress, parseHostName } from '../network/options.js';
import { UsageError } from '../options.js';
import { complain, say } from '../say.js';
import { home } from '../state/home.js';
import { containerDirectory, findContainer } from '../state/record.js';
import { table } from '../table.js';

const collect = (value: string, all: string[] = []) => [...all, value];

/** What networks need is loaded for them only. */
async function open() {
  const { openNetworks } = await import('../network/networks.js');
  return openNetworks();
}

interface CreateFlags {
  driver: 'bridge' | 'macvlan' | 'ipvlan';
  subnet?: string[];
  gateway?: string[];
  ipRange?: string[];
  internal?: boolean;
  ipv6?: boolean;
  isolated?: boolean;
  parent?: string;
  mtu?: string;
}

const create = new Command('create')
  .description('make a network')
  .argument('<name>')
  .addOption(new Option('-d, --driver <driver>', 'kind').choices(['bridge', 'macvlan', 'ipvlan']).default('bridge'))
  .option('--subnet <prefix>', 'one of each family at the most; default a free one', collect)
  .option('--gateway <address>', 'of the subnet that it is in', collect)
  .option('--ip-range <prefix>', 'addresses are given out of this part of a subnet', collect)
  .option('--internal', 'no way out, nor in')
  .option('--ipv6', 'add an IPv6 subnet')
  .option('--isolated', 'members do not reach one another')
  .option('--parent <link>', 'link of the host, for macvlan and ipvlan')
  .option('--mtu <bytes>', 'largest packet')
  .action(async (name: string, flags: CreateFlags) => {
    checkNetworkName(name);
    const { driver, internal, ipv6, isolated, parent, mtu } = flags;
    if (mtu !== undefined && !/^[1-9]\d{1,4}$/.test(mtu))
      throw new UsageError(`--mtu is bytes, not ${JSON.stringify(mtu)}`);
    if ((driver === 'bridge') === (parent !== undefined))
      throw new UsageError(
        parent === undefined ? `driver ${driver} needs --parent` : '--parent is for macvlan and ipvlan',
      );
    if (isolated && driver !== 'bridge') throw new UsageError('--isolated is for bridges');
    const subnets = subnetsOf(flags);
    using networks = await open();
    const common = {
      name,
      ...(subnets && { subnets }),
      ...(internal && { internal }),
      ...(ipv6 && { ipv6 }),
      ...(mtu !== undefined && { mtu: Number(mtu) }),
    };
    const options = (
      driver === 'bridge'
        ? { ...common, driver, options: { ...(isolated && { isolated }) } }
        : { ...common, driver, options: { parent } }
    ) as NetworkOptions & { host?: never };
    try {
      networks.create(options).close();
    } catch (error) {
      throw readable(error);
    }
    say(process.stdout, `${name}\n`);
  });

/** Gateways and ranges belong to the subnet of their family. */
function subnetsOf({ subnet = [], gateway = [], ipRange = [] }: CreateFlags): PoolOptions[] | undefined {
  const six = (text: string) => text.includes(':');
  for (const [option, list] of [
    ['--gateway', gateway],
    ['--ip-range', ipRange],
  ] as const)
    for (const text of list)
      if (!subnet.some((each) => six(each) === six(text))) throw new UsageError(`${option} ${text} is in no --subnet`);
  const pools = subnet.map((text) => {
    const own = (list: readonly string[]) => list.find((each) => six(each) === six(text));
    const [way, range] = [own(gateway), own(ipRange)];
    return { subnet: text, ...(way !== undefined && { gateway: way }), ...(range !== undefined && { range }) };
  });
  return pools.length ? pools : undefined;
}

const ls = new Command('ls')
  .description('list the networks')
  .option('-q, --quiet', 'only their names')
  .action(async ({ quiet }: { quiet?: boolean }) => {
    using networks = await open();
    const all = networks.list();
    const lines = quiet
      ? all.map(({ name }) => name)
      : table([
          ['NAME', 'DRIVER', 'SCOPE', 'SUBNETS'],
          ...all.map(({ name, driver, internal, subnets }) => [
            name,
            driver,
            internal ? 'internal' : 'open',
            subnets.map(({ subnet }) => subnet).join(','),
          ]),
        ]);
    if (lines.length) say(process.stdout, `${lines.join('\n')}\n`);
  });

const inspect = formatted(new Command('inspect'))
  .description('what networks are made of, and who is in them, as JSON')
  .argument('<name...>')
  .action(async (names: string[], { format }: { format?: string }) => {
    using networks = await open();
    const found = names.map((name) => {
      const config = configOf(name, () => networks.config(name));
      using network = networks.get(name);
      return { ...config, members: network.members.map(({ owner: _owner, ...member }) => member) };
    });
    show(found, format);
  });

function configOf(name: string, read: () => NetworkConfig): NetworkConfig {
  checkNetworkName(name);
  try {
    return read();
  } catch (error) {
    throw KernelError.is(error, 'ENOENT') ? new UsageError(`no such network: ${name}`) : error;
  }
}

const rm = new Command('rm')
  .description('remove networks that nobody is in')
  .argument('<name...>')
  .action(async (names: string[]) => {
    using networks = await open();
    for (const name of names) {
      try {
        configOf(name, () => networks.config(name));
        networks.remove(name);
        say(process.stdout, `${name}\n`);
      } catch (error) {
        // The others go all the same.
        complain((readable(error) as Error).message);
        process.exitCode = 125;
      }
    }
  });

const prune = new Command('prune').description('remove the networks that nobody is in').action(async () => {
  using networks = await open();
  for (const { name } of networks.list()) {
    try {
      networks.remove(name);
      say(process.stdout, `${name}\n`);
    } catch (error) {
      if (!KernelError.is(error, 'EBUSY') && !KernelError.is(error, 'ENOENT')) throw readable(error);
    }
  }
});

const connect = new Command('connect')
  .description('put a running container into a network')
  .argument('<network>')
  .argument('<container>', 'name or id')
  .option('--ip <address>', 'IPv4 address')
  .option('--ip6 <address>', 'IPv6 address')
  .option('--alias <name>', 'a name by which neighbours find it', collect)
  .action(async (network: string, word: string, flags: { ip?: string; ip6?: string; alias?: string[] }) => {
    const { id } = findContainer(home(), word);
    await askControl(containerDirectory(home(), id), {
      verb: 'connect',
      network: checkNetworkName(network),
      aliases: (flags.alias ?? []).map((name) => parseHostName('--alias', name)),
      ...(flags.ip !== undefined && { ip: parseAddress('--ip', flags.ip, 4) }),
      ...(flags.ip6 !== undefined && { ip6: parseAddress('--ip6', flags.ip6, 6) }),
    });
  });

const disconnect = new Command('disconnect')
  .description('take a running container out of a network')
  .argument('<network>')
  .argument('<container>', 'name or id')
  .action(async (network: string, word: string) => {
    const { id } = findContainer(home(), word);
    await askControl(containerDirectory(home(), id), { verb: 'disconnect', network: checkNetworkName(network) });
  });

/** `iso network`. */
export const network = new Command('network').description('networks of containers');
for (const command of [create, ls, inspect, rm, connect, disconnect, prune]) network.addCommand(command);

/** The kernel's answer, with what it means. */
function readable(error: unknown): unknown {
  return KernelError.is(error) && error.hint ? new UsageError(error.hint, { cause: error }) : error;
}
