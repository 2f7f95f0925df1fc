#!/usr/bin/env node
import { Command, CommanderError, Option } from 'commander';
import type { ContainerOptions } from './assemble.js';
import { explainContainer } from './container.js';
import { failureCode } from './exitcode.js';
import { foreground } from './foreground.js';
import { parseBytes, parseCpus, parsePids, parseTmpfs, parseVolume } from './options.js';

interface RunFlags {
  name?: string;
  interactive?: boolean;
  tty?: boolean;
  env?: string[];
  workdir?: string;
  user?: string;
  volume?: string[];
  readOnly?: boolean;
  tmpfs?: string[];
  hostname?: string;
  network: 'host' | 'none';
  memory?: string;
  cpus?: string;
  pidsLimit?: string;
  userns?: 'host' | 'private';
  init?: boolean;
  explain?: boolean;
}

const collect = (value: string, all: string[] = []) => [...all, value];

/** Not before there is something to say: who touches a standard stream makes it non-blocking, for the container too. */
function say(stream: NodeJS.WriteStream, text: string): void {
  // What reads it may have ended.
  stream.on('error', () => {});
  stream.write(text);
}
const complain = (message: string) => say(process.stderr, `iso: ${message.trim().replace(/\s*\n\s*/g, ' ')}\n`);

const iso = new Command('iso')
  .description('Containers from Node, without a daemon')
  .enablePositionalOptions()
  .showSuggestionAfterError(false)
  .configureOutput({ outputError: (text) => complain(text.replace(/^error: /, '')) })
  .exitOverride();
iso
  .command('run')
  .description('run a command in a new container')
  .argument('<root>', 'directory used as read-only lower layer, / for the host’s own root')
  .argument('[command...]', 'program and arguments, default /bin/sh')
  .passThroughOptions()
  .option('--name <name>', 'name of the container, its default host name')
  .option('-i, --interactive', 'pass standard input on')
  .option('-t, --tty', 'give it a terminal')
  .option('--rm', 'remove it when it ends (always so)')
  .option('-e, --env <variable>', 'NAME=VALUE, or NAME from this environment', collect)
  .option('-w, --workdir <path>', 'working directory inside')
  .option('-u, --user <user>', 'NAME|UID[:GROUP|GID]')
  .option('-v, --volume <volume>', 'SOURCE:TARGET[:ro,rw,rprivate,rslave]', collect)
  .option('--read-only', 'make the root read-only')
  .option('--tmpfs <mount>', 'PATH[:size=,mode=,uid=,gid=,ro,exec,suid,dev]', collect)
  .option('--hostname <name>', 'host name inside')
  .addOption(new Option('--network <mode>', 'network').choices(['none', 'host']).default('none'))
  .option('-m, --memory <bytes>', 'memory limit, for example 64m')
  .option('--cpus <number>', 'CPU limit, for example 0.5')
  .option('--pids-limit <number>', 'most processes')
  .addOption(new Option('--userns <mode>', 'user namespace').choices(['host', 'private']))
  .option('--init', 'an init as process 1, which reaps orphans and passes signals on')
  .option('--explain', 'print the launch program and exit')
  .action(async (root: string, command: string[], flags: RunFlags) => {
    const options = containerOptions(root, command, flags);
    const how = { tty: flags.tty ?? false, interactive: flags.interactive ?? false };
    if (flags.explain)
      say(process.stdout, await explainContainer({ ...options, ...(how.tty ? { stdio: 'pty' } : {}) }));
    else process.exitCode = await foreground(options, how);
  });

function containerOptions(root: string, command: string[], flags: RunFlags): ContainerOptions {
  const { name, hostname, workdir, user, memory, cpus, pidsLimit, userns } = flags;
  return {
    root,
    env: flags.env ?? [],
    volumes: (flags.volume ?? []).map(parseVolume),
    tmpfs: (flags.tmpfs ?? []).map(parseTmpfs),
    readonly: flags.readOnly ?? false,
    network: flags.network,
    init: flags.init ?? false,
    ...(command.length ? { command } : {}),
    ...(name === undefined ? {} : { name }),
    ...(hostname === undefined ? {} : { hostname }),
    ...(workdir === undefined ? {} : { cwd: workdir }),
    ...(user === undefined ? {} : { user }),
    ...(userns === undefined ? {} : { userns }),
    ...(memory === undefined ? {} : { memory: parseBytes(memory) }),
    ...(cpus === undefined ? {} : { cpus: parseCpus(cpus) }),
    ...(pidsLimit === undefined ? {} : { pidsLimit: parsePids(pidsLimit) }),
  };
}

try {
  await iso.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 125;
  else {
    complain(error instanceof Error ? error.message : String(error));
    process.exitCode = failureCode(error);
  }
}
