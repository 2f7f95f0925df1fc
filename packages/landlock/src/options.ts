import { Fd, invalid } from '@iso/sys';
import { fsRights, logFlags, NEWEST, netRights, scopes } from './raw/landlock.js';
import {
  type Access,
  type FileRight,
  type LogFlag,
  type NetRight,
  refuseOthers,
  rightsOf,
  type Scope,
} from './rights.js';

/** A place, and what is allowed beneath it. */
export interface PathRule {
  /** Absolute, as the process sees it: inside its own root. Or a descriptor of this process. */
  readonly path: string | Fd;
  /** A directory's rights are those of everything beneath; a file takes those that files have. */
  readonly access: Access;
  /** It may be missing; default is false. */
  readonly optional?: boolean;
}

/** Ports that are allowed; a list that is given, empty even, denies all others. Port 0 to bind is any that the kernel picks. */
export interface NetRules {
  readonly bindTcp?: readonly number[];
  readonly connectTcp?: readonly number[];
  readonly bindUdp?: readonly number[];
  readonly connectUdp?: readonly number[];
}

/** What a process may reach. */
export interface LandlockOptions {
  /** Given, everything else of the file system is denied. */
  readonly paths?: readonly PathRule[];
  readonly net?: NetRules;
  /** What is kept inside. */
  readonly scope?: readonly Scope[];
  /**
   * The ABI whose rights on files are meant: those are denied where no rule allows them, newer ones are not restricted. The
   * default is 5, or in `bestEffort` the newest one. Ports and scopes have ABIs of their own.
   */
  readonly abi?: number;
  /** `strict` (the default): all of it or an error. `bestEffort`: as much as the kernel has; {@link Landlock.report} says what that is. */
  readonly mode?: 'strict' | 'bestEffort';
  /** What is logged of denials. */
  readonly log?: readonly LogFlag[];
  /** Sets no_new_privs, without which CAP_SYS_ADMIN is needed; default is true. */
  readonly noNewPrivileges?: boolean;
}

/** Options that were judged. */
export interface Ruleset {
  readonly paths: readonly { path: string | Fd; rights: readonly FileRight[]; optional: boolean }[] | undefined;
  readonly ports: readonly { right: NetRight; ports: readonly number[] }[];
  readonly scope: readonly Scope[];
  readonly log: readonly LogFlag[];
  readonly abi: number;
  readonly strict: boolean;
  readonly noNewPrivileges: boolean;
}

const known = ['paths', 'net', 'scope', 'abi', 'mode', 'log', 'noNewPrivileges'];
const ofPaths = ['path', 'access', 'optional'];
const netNames: Readonly<Record<keyof NetRules, NetRight>> = {
  bindTcp: 'bind-tcp',
  connectTcp: 'connect-tcp',
  bindUdp: 'bind-udp',
  connectUdp: 'connect-send-udp',
};
/** The first that is no file's: what is common, and denies what a reader of the options expects. */
const USUAL = 5;

/**
 * Judges options.
 *
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function judge(options: LandlockOptions): Ruleset {
  refuseUnknown('option', options, known);
  const { paths, net = {}, scope = [], log = [], mode = 'strict', noNewPrivileges = true } = options;
  if (mode !== 'strict' && mode !== 'bestEffort') throw invalid(`mode is strict or bestEffort, not ${String(mode)}`);
  if (typeof noNewPrivileges !== 'boolean')
    throw invalid(`noNewPrivileges is true or false: ${String(noNewPrivileges)}`);
  const abi = options.abi ?? (mode === 'strict' ? USUAL : NEWEST);
  if (!Number.isInteger(abi) || abi < 1 || abi > NEWEST)
    throw invalid(`abi is from 1 to ${NEWEST}, not ${String(abi)}`);
  refuseOthers('scope', scope, scopes);
  refuseOthers('log flag', log, logFlags);
  refuseUnknown('net rule', net, Object.keys(netNames));
  const ports = (Object.keys(netNames) as (keyof NetRules)[]).flatMap((name) => {
    const list = net[name];
    return list === undefined ? [] : [{ right: netNames[name], ports: judgePorts(name, list) }];
  });
  if (paths !== undefined && !Array.isArray(paths)) throw invalid(`paths must be an array: ${String(paths)}`);
  const judged = paths?.map((rule) => judgePath(rule, abi, mode === 'strict'));
  if (!judged && ports.length === 0 && scope.length === 0)
    throw invalid('it would restrict nothing: paths, net or scope must be given');
  return { paths: judged, ports, scope, log, abi, strict: mode === 'strict', noNewPrivileges };
}

function judgePath(rule: PathRule, abi: number, strict: boolean): NonNullable<Ruleset['paths']>[number] {
  if (typeof rule !== 'object' || rule === null) throw invalid(`a path rule is { path, access }, not ${String(rule)}`);
  refuseUnknown('option of a path', rule, ofPaths);
  const { path, access, optional = false } = rule;
  if (!(path instanceof Fd) && !(typeof path === 'string' && path.startsWith('/')))
    throw invalid(`not an absolute path, and no descriptor: ${JSON.stringify(path)}`);
  const rights = rightsOf(access);
  const newer = Array.isArray(access) && strict ? rights.find((name) => fsRights[name].abi > abi) : undefined;
  if (newer) throw invalid(`${newer} is a right of ABI ${fsRights[newer].abi}: say abi: ${fsRights[newer].abi}`);
  return { path, rights, optional };
}

function judgePorts(name: string, ports: readonly number[]): readonly number[] {
  if (!Array.isArray(ports)) throw invalid(`net.${name} must be an array of ports: ${String(ports)}`);
  const odd = ports.find((port) => !Number.isInteger(port) || port < 0 || port > 65_535);
  if (odd !== undefined) throw invalid(`net.${name}: no port: ${String(odd)}`);
  return ports;
}

function refuseUnknown(what: string, options: object, names: readonly string[]): void {
  if (typeof options !== 'object' || options === null) throw invalid(`not an object: ${String(options)}`);
  const unknown = Object.keys(options).find((name) => !names.includes(name));
  if (unknown !== undefined) throw invalid(`no ${what}: ${JSON.stringify(unknown)}, there are ${names.join(', ')}`);
}

/** What the judged options need, by the ABI that has it first. */
export function needs({ paths, ports, scope, log, abi }: Ruleset): { name: string; abi: number }[] {
  return [
    ...(paths ? [{ name: `rights on files of ABI ${abi}`, abi }] : []),
    ...ports.map(({ right }) => ({ name: right, abi: netRights[right].abi })),
    ...scope.map((name) => ({ name: `scope ${name}`, abi: scopes[name].abi })),
    ...log.map((name) => ({ name: `log ${name}`, abi: logFlags[name].abi })),
  ];
}
