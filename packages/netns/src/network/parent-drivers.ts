import { invalid, KernelError, UnsupportedError } from '@iso/sys';
import type { NetNS } from '../namespace/netns.js';
import type { IpvlanData, MacvlanData } from '../route/link-kind.js';
import type { DriverNetwork, NetworkConfig, NetworkDriver } from './driver.js';

/** What a macvlan network has to be told. */
export interface MacvlanOptions {
  /** Link of the host whose wire the endpoints are on. */
  parent: string;
  /** Default `bridge`; with `private` endpoints do not reach one another. */
  mode?: Exclude<MacvlanData['mode'], undefined>;
}

/** What an ipvlan network has to be told. */
export interface IpvlanOptions {
  /** Link of the host whose wire, and whose MAC, the endpoints have. */
  parent: string;
  /** Default `l2`; with `l3` and `l3s` the parent routes. */
  mode?: Exclude<IpvlanData['mode'], undefined>;
}

const ENETDOWN = 100;
const MODES = {
  macvlan: ['bridge', 'private', 'vepa', 'passthru'],
  ipvlan: ['l2', 'l3', 'l3s'],
} as const;

/** Networks on the wire of a link of the host, each endpoint with a MAC of its own. The host itself does not reach them. */
export const macvlanDriver: NetworkDriver = onParent('macvlan');
/** Networks on the wire of a link of the host, with its MAC. The host itself does not reach them. */
export const ipvlanDriver: NetworkDriver = onParent('ipvlan');

function onParent(kind: 'macvlan' | 'ipvlan'): NetworkDriver {
  return {
    name: kind,
    link: (config) => checked(kind, config).parent,
    open: (config, { host }) => openOnParent(kind, config, host),
  };
}

function openOnParent(kind: 'macvlan' | 'ipvlan', config: NetworkConfig, host: NetNS): DriverNetwork {
  const { parent, mode } = checked(kind, config);
  if (config.internal)
    throw invalid(`a ${kind} network cannot be internal: its endpoints are on the wire of ${parent}`);
  if (!host.rtnl.links.get(parent).up) {
    const hint = `its endpoints have no carrier before ${parent} is up`;
    throw new KernelError(ENETDOWN, { syscall: 'bind', call: `parent ${parent} of network ${config.name}`, hint });
  }
  return {
    onLink: kind === 'ipvlan' && mode !== 'l2',
    async join(netns, { link, mac }) {
      const { mtu } = config;
      const common = { name: link, parent, netns, ...(mtu !== undefined && { mtu }) };
      const { rtnl } = host;
      if (kind === 'ipvlan') {
        const create = () => rtnl.links.create({ kind, ...common, data: { mode } as IpvlanData });
        await rtnl.later(create).catch((error) => {
          throw lacking(error, kind);
        });
        return rtnl.links.get(parent).mac as string;
      }
      await rtnl.later(() => rtnl.links.create({ kind, ...common, mac, data: { mode } as MacvlanData }));
      return mac;
    },
    leave({ link }, netns) {
      // Where nobody knows its namespace that is gone, and the link with it.
      try {
        netns?.rtnl.links.remove(link);
      } catch (error) {
        if (!KernelError.is(error, 'ENODEV')) throw error;
      }
    },
    close() {},
    remove() {},
  };
}

function lacking(error: unknown, kind: string): unknown {
  if (!KernelError.is(error, 'EOPNOTSUPP') || !error.kernelMessage?.includes('Unknown device type')) return error;
  const said = 'the kernel answered EOPNOTSUPP, Unknown device type';
  return new UnsupportedError(`a link of kind ${kind}`, said, { cause: error });
}

function checked(kind: 'macvlan' | 'ipvlan', { options }: NetworkConfig): { parent: string; mode: string } {
  const modes: readonly string[] = MODES[kind];
  for (const name of Object.keys(options))
    if (name !== 'parent' && name !== 'mode') throw invalid(`no such option of a ${kind} network: ${name}`);
  const { parent, mode = modes[0] } = options;
  if (typeof parent !== 'string') throw invalid(`a ${kind} network needs the name of its parent link`);
  if (typeof mode !== 'string' || !modes.includes(mode))
    throw invalid(`not a mode of a ${kind} network: ${JSON.stringify(mode)}: ${modes.join(', ')}`);
  return { parent, mode };
}
