#!/usr/bin/env node
import type { TerminalSize } from '@iso/process';
import { Command, CommanderError, Option } from 'commander';
import { type Container, type ContainerOptions, explainContainer, run } from './container.js';
import { exitCode, failureCode } from './exitcode.js';
import { parseBytes, parseNumber, parseTmpfs, parseVolume } from './options.js';

interface RunFlags {
  name?: string;
  interactive?: boolean;
  tty?: boolean;
  env: string[];
  workdir?: string;
  user?: string;
  volume: string[];
  readOnly?: boolean;
  tmpfs: string[];
  hostname?: string;
  network: 'host' | 'none';
  memory?: string;
  cpus?: string;
  pidsLimit?: string;
  userns?: 'host' | 'private';
  init?: boolean;
  explain?: boolean;
}

const collect = (value: string, all: string[]) => [...all, value];

const iso = new Command('iso')
  .description('Containers from Node, without a daemon')
  .enablePositionalOptions()
  .exitOverride();
iso
  .command('run')
  .description('run a command in a new container')
  .argument('<root>', 'directory used as read-only lower layer, / for the host’s own root')
  .argument('[command...]', 'program and arguments, default /bin/sh')
  .passThroughOptions()
  .option('--name <name>', 'name of the container')
  .option('-i, --interactive', 'keep standard input open')
  .option('-t, --tty', 'give it a terminal')
  .option('--rm', 'remove it when it ends (always so)')
  .option('-e, --env <variable>', 'NAME=VALUE, or NAME from this environment', collect, [])
  .option('-w, --workdir <path>', 'working directory inside')
  .option('-u, --user <user>', 'NAME|UID[:GROUP|GID]')
  .option('-v, --volume <volume>', 'SOURCE:TARGET[:ro]', collect, [])
  .option('--read-only', 'make the root read-only')
  .option('--tmpfs <mount>', 'PATH[:size=BYTES]', collect, [])
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
    if (flags.explain) process.stdout.write(await explainContainer(options));
    else process.exitCode = await attached(options, flags);
  });

function containerOptions(root: string, command: string[], flags: RunFlags): ContainerOptions {
  const { name, hostname, workdir, user, memory, cpus, pidsLimit, userns } = flags;
  return {
    root,
    env: flags.env,
    volumes: flags.volume.map(parseVolume),
    tmpfs: flags.tmpfs.map(parseTmpfs),
    readonly: flags.readOnly ?? false,
    network: flags.network,
    init: flags.init ?? false,
    stdio: flags.tty ? 'pty' : [flags.interactive ? 'inherit' : 'ignore', 'inherit', 'inherit'],
    ...(command.length ? { command } : {}),
    ...(name === undefined ? {} : { name }),
    ...(hostname === undefined ? {} : { hostname }),
    ...(workdir === undefined ? {} : { cwd: workdir }),
    ...(user === undefined ? {} : { user }),
    ...(userns === undefined ? {} : { userns }),
    ...(memory === undefined ? {} : { memory: parseBytes(memory) }),
    ...(cpus === undefined ? {} : { cpus: parseNumber('--cpus', cpus) }),
    ...(pidsLimit === undefined ? {} : { pidsLimit: Math.floor(parseNumber('--pids-limit', pidsLimit)) }),
    ...(flags.tty ? { terminal: terminalSize() } : {}),
  };
}

/** Runs it in the foreground: signals go to it, the terminal is its own, the exit code is its own. */
async function attached(options: ContainerOptions, flags: RunFlags): Promise<number> {
  const container = await run(options);
  const stopForwarding = forwardSignals(container);
  const stopTerminal = flags.tty ? attachTerminal(container, flags.interactive ?? false) : () => {};
  try {
    const closed = new Promise<void>((resolve) => container.child.once('close', () => resolve()));
    const exit = await container.exited;
    if (flags.tty) await closed;
    return exitCode(exit);
  } finally {
    stopTerminal();
    stopForwarding();
  }
}

const forwarded: NodeJS.Signals[] = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGUSR1', 'SIGUSR2', 'SIGCONT'];

function forwardSignals({ child }: Container): () => void {
  const forward = (signal: NodeJS.Signals) => void child.kill(signal);
  for (const signal of forwarded) process.on(signal, forward);
  return () => {
    for (const signal of forwarded) process.off(signal, forward);
  };
}

function attachTerminal({ child }: Container, interactive: boolean): () => void {
  const resize = () => child.resize(terminalSize());
  child.stdout?.on('data', (chunk: Buffer) => process.stdout.write(chunk));
  process.stdout.on('resize', resize);
  const raw = interactive && process.stdin.isTTY;
  if (raw) process.stdin.setRawMode(true);
  if (interactive && child.stdin) process.stdin.pipe(child.stdin, { end: false });
  return () => {
    process.stdout.off('resize', resize);
    if (raw) process.stdin.setRawMode(false);
    if (interactive) process.stdin.destroy();
  };
}

function terminalSize(): TerminalSize {
  return { columns: process.stdout.columns ?? 80, rows: process.stdout.rows ?? 24 };
}

try {
  await iso.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 125;
  else {
    process.stderr.write(`iso: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = failureCode(error);
  }
}
