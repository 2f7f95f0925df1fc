import { readFileSync } from 'node:fs';
import type { SpawnOptions } from '@iso/process';
import { type Command, Option } from 'commander';
import type { ContainerOptions } from '../assemble.js';
import { parseSecurityOptions } from '../hardening.js';
import { parseBytes, UsageError } from '../options.js';
import { shareWith } from '../share.js';
import type { SharingOptions } from '../sharing.js';

/** Options of `iso run` that concern what its processes may do, and what they share with others, as typed. */
export interface ProcessFlags {
  capAdd?: string[];
  capDrop?: string[];
  privileged?: boolean;
  securityOpt?: string[];
  ulimit?: string[];
  sysctl?: string[];
  shmSize?: number;
  ipc?: string;
  pid?: string;
  uts?: 'host' | 'private';
  cgroupns?: 'host' | 'private';
  groupAdd?: string[];
  env?: string[];
  envFile?: string[];
}

const collect = (value: string, all: string[] = []) => [...all, value];

/** Adds the options of processes to a command. */
export function processOptions(command: Command): Command {
  return environmentOptions(command)
    .option('--cap-add <name>', 'a capability besides the usual ones, or ALL', collect)
    .option('--cap-drop <name>', 'a capability to go without, or ALL', collect)
    .option('--privileged', 'all capabilities, devices and system calls; nothing is masked')
    .option(
      '--security-opt <option>',
      'seccomp=unconfined|builtin|FILE, no-new-privileges[=false], systempaths=unconfined',
      collect,
    )
    .option('--ulimit <limit>', 'NAME=SOFT[:HARD], for example nofile=1024:4096; -1 for none', collect)
    .option('--sysctl <value>', 'NAME=VALUE of a namespace of its own', collect)
    .option('--shm-size <bytes>', 'size of /dev/shm, default 64m', parseBytes)
    .option('--ipc <mode>', 'private, shareable, none, host, or container:NAME')
    .option('--pid <mode>', 'host, or container:NAME')
    .addOption(new Option('--uts <mode>', 'whose host name it has').choices(['host', 'private']))
    .addOption(new Option('--cgroupns <mode>', 'cgroup namespace').choices(['host', 'private']))
    .option('--group-add <group>', 'a supplementary group, GROUP|GID', collect);
}

/** Adds the options on variables, which `exec` has too. */
export function environmentOptions(command: Command): Command {
  return command
    .option('-e, --env <variable>', 'NAME=VALUE, or NAME from this environment', collect)
    .option('--env-file <file>', 'variables, one a line', collect);
}

/**
 * What was asked for.
 *
 * @param flags - as typed
 * @returns options of `run`, but those on namespaces that are another container's
 * @throws {@link UsageError}
 */
export function processOptionsOf(flags: ProcessFlags): Partial<ContainerOptions> {
  const { capAdd, capDrop, privileged, groupAdd, shmSize, uts, cgroupns } = flags;
  return {
    env: environmentOf(flags),
    ...parseSecurityOptions(flags.securityOpt ?? []),
    ...(capAdd && { capAdd }),
    ...(capDrop && { capDrop }),
    ...(privileged && { privileged }),
    ...(groupAdd && { groupAdd }),
    ...(flags.ulimit && { ulimits: Object.assign({}, ...flags.ulimit.map(parseUlimit)) }),
    ...(flags.sysctl && { sysctls: Object.fromEntries(flags.sysctl.map(parseSysctl)) }),
    ...(shmSize !== undefined && { shmSize }),
    ...(uts && { uts }),
    ...(cgroupns && { cgroupns }),
  };
}

/** Namespaces that are shared, to be disposed when the container has started. */
export interface RunSharing extends Disposable {
  /** For `run()`. */
  readonly options: Pick<SharingOptions, 'pid' | 'ipc'>;
}

/**
 * Whose namespaces are shared; nothing is done before that makes sense.
 *
 * @param flags - as typed
 * @returns opens them
 * @throws {@link UsageError}
 */
export function sharingOf(flags: Pick<ProcessFlags, 'pid' | 'ipc'>): (home: string) => RunSharing {
  const pid = parseShared('--pid', flags.pid, ['host']);
  const ipc = parseShared('--ipc', flags.ipc, ['private', 'shareable', 'none', 'host']);
  return (home) => {
    const opened: Disposable[] = [];
    const dispose = () => {
      for (const one of opened) one[Symbol.dispose]();
    };
    const open = <T extends string>(what: 'pid' | 'ipc', shared: T | { container: string }) => {
      if (typeof shared === 'string') return shared;
      const one = shareWith(home, shared.container, what);
      opened.push(one);
      return one;
    };
    try {
      const options = {
        ...(pid !== undefined && { pid: open('pid', pid) }),
        ...(ipc !== undefined && { ipc: open('ipc', ipc) }),
      };
      return { options, [Symbol.dispose]: dispose };
    } catch (error) {
      dispose();
      throw error;
    }
  };
}

function parseShared<T extends string>(
  option: string,
  text: string | undefined,
  words: readonly T[],
): T | { container: string } | undefined {
  if (text === undefined) return undefined;
  const word = words.find((one) => one === text);
  if (word !== undefined) return word;
  const [, container] = /^container:(.+)$/s.exec(text) ?? [];
  if (container === undefined)
    throw new UsageError(`${option} is ${words.join(', ')} or container:NAME, not ${JSON.stringify(text)}`);
  return { container };
}

/** Limits that docker knows; of `as` it says that containers are not started with it. */
const limits = [
  'core',
  'cpu',
  'data',
  'fsize',
  'locks',
  'memlock',
  'msgqueue',
  'nice',
  'nofile',
  'nproc',
  'rss',
  'rtprio',
  'rttime',
  'sigpending',
  'stack',
] as const satisfies readonly (keyof NonNullable<SpawnOptions['rlimits']>)[];

/**
 * Parses docker's `--ulimit NAME=SOFT[:HARD]`.
 *
 * @param text - as typed; -1 is no limit
 * @returns the limit by its name
 * @throws {@link UsageError}
 */
export function parseUlimit(text: string): NonNullable<SpawnOptions['rlimits']> {
  const [, name = '', first = '', second = first] = /^(\w+)=(-1|\d{1,15})(?::(-1|\d{1,15}))?$/.exec(text) ?? [];
  if (name === '') throw new UsageError(`--ulimit is NAME=SOFT[:HARD], not ${JSON.stringify(text)}`);
  if (!(limits as readonly string[]).includes(name))
    throw new UsageError(`--ulimit: no limit is called ${JSON.stringify(name)}, there are ${limits.join(', ')}`);
  const [soft, hard] = [first, second].map((word) => (word === '-1' ? 'unlimited' : Number(word)));
  if (hard !== 'unlimited' && (soft === 'unlimited' || (soft as number) > (hard as number)))
    throw new UsageError(`--ulimit ${name}: the soft limit is above the hard one`);
  return { [name]: { soft, hard } };
}

function parseSysctl(text: string): [name: string, value: string] {
  const [name = '', value] = text.split(/=(.*)/s);
  if (name === '' || !value) throw new UsageError(`--sysctl is NAME=VALUE, not ${JSON.stringify(text)}`);
  return [name, value];
}

/**
 * Variables of files, then those of the command line, which count more.
 *
 * @param flags - as typed
 * @returns each `NAME=VALUE` or `NAME`
 * @throws {@link UsageError} for files that cannot be read, and lines that are no variables
 */
export function environmentOf({ envFile = [], env = [] }: Pick<ProcessFlags, 'env' | 'envFile'>): string[] {
  return [...envFile.flatMap(readVariables), ...env];
}

/** As docker: white space before a line goes, a line that begins with # is none, quotes are characters like others. */
function readVariables(file: string): string[] {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(file));
  } catch (error) {
    throw new UsageError(`--env-file ${file}: ${(error as Error).message}`, { cause: error });
  }
  return text
    .split(/\r?\n/)
    .map((line) => line.trimStart())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const name = line.split('=', 1)[0] as string;
      if (name === '') throw new UsageError(`--env-file ${file}: no variable name on the line ${JSON.stringify(line)}`);
      if (/\s/.test(name))
        throw new UsageError(`--env-file ${file}: white space in the variable ${JSON.stringify(name)}`);
      return line;
    });
}
