import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { type Exit, signalNumber } from '@iso/process';
import { Command } from 'commander';
import type { CreateOptions } from '../container/container.js';
import { attachHere } from '../container/foreground.js';
import { NoContainerError, RuntimeError } from '../error.js';
import { type GlobalOptions, openContainer } from './options.js';

interface CreateFlags {
  bundle: string;
  pidFile?: string;
  preserveFds: number;
  newKeyring: boolean;
  consoleSocket?: string;
  detach?: boolean;
}

const creating = (name: string) =>
  new Command(name)
    .argument('<id>')
    .option('-b, --bundle <directory>', 'with config.json and the root', '.')
    .option('--pid-file <path>', 'file for the number of its first process')
    .option('--preserve-fds <count>', 'descriptors from 3 on that it keeps', descriptors, 0)
    .option('--console-socket <path>', 'socket that its terminal is sent to')
    .option('--no-pivot', 'ignored: the root is always pivoted into')
    .option('--no-new-keyring', 'leave it the caller’s session keyring');

/** A container in the making, and of what. */
const asked = (id: string, { newKeyring, ...flags }: CreateFlags, command: Command) => {
  const options = command.optsWithGlobals<GlobalOptions>();
  const { systemdCgroup, cgroupManager } = options;
  const bySystemd = systemdCgroup || cgroupManager === 'systemd';
  const cgroups: CreateOptions['cgroups'] = bySystemd ? 'systemd' : cgroupManager !== 'disabled';
  return { container: openContainer(options, id), what: { ...flags, cgroups, callersKeys: !newKeyring } };
};

/** A number of descriptors, from the command line. */
export function descriptors(text: string): number {
  if (!/^\d{1,5}$/.test(text)) throw new RuntimeError(`not a number of descriptors: ${JSON.stringify(text)}`);
  return Number(text);
}

/** `iso-oci create`. */
export const create = creating('create')
  .description('make a container whose program waits for start')
  .action(async (id: string, flags: CreateFlags, command: Command) => {
    const { container, what } = asked(id, flags, command);
    const child = await container.create(what);
    try {
      writePid(flags, child.pid);
    } catch (error) {
      await container.delete({ force: true });
      throw error;
    }
    // It is the caller's from now on.
    child.unref();
  });

/** `iso-oci start`. */
export const start = new Command('start')
  .description('let its program go')
  .argument('<id>')
  .action((id: string, _: object, command: Command) => openContainer(command.optsWithGlobals(), id).start());

/** `iso-oci run`. */
export const run = creating('run')
  .description('create, start, wait for its end and delete')
  .option('-d, --detach', 'leave it running')
  .action(async (id: string, flags: CreateFlags, command: Command) => {
    const { container, what } = asked(id, flags, command);
    const here = { terminalHere: !flags.detach };
    const child = await container.create({ ...what, ...here });
    try {
      writePid(flags, child.pid);
      await container.start();
    } catch (error) {
      await container.delete({ force: true });
      throw error;
    }
    if (flags.detach) return void child.unref();
    const shown = attachHere(child);
    process.exitCode = exitCode(await child.exited);
    await shown;
    await container.delete();
  });

/** `iso-oci kill`. */
export const kill = new Command('kill')
  .description('send a signal')
  .argument('<id>')
  .argument('[signal]', 'name or number', 'SIGTERM')
  .option('-a, --all', 'to all of its processes')
  .action((id: string, signal: string, { all }: { all?: boolean }, command: Command) =>
    openContainer(command.optsWithGlobals(), id).kill(parseSignal(signal), all),
  );

/** `iso-oci delete`. */
export const delete_ = new Command('delete')
  .description('remove what its creation made')
  .argument('<id>')
  .option('-f, --force', 'kill it first; one that is not there is no error')
  .action(async (id: string, { force }: { force?: boolean }, command: Command) => {
    try {
      await openContainer(command.optsWithGlobals(), id).delete(force ? { force } : {});
    } catch (error) {
      if (!(force && error instanceof NoContainerError)) throw error;
    }
  });

/**
 * Tells the number of a process by a file, which is there whole or not at all. Whatever had its name, a FIFO or a link, makes way.
 *
 * @param flags - with its path
 * @param pid - the number
 */
export function writePid({ pidFile }: { pidFile?: string }, pid: number): void {
  if (pidFile === undefined) return;
  const draft = join(dirname(pidFile), `.${basename(pidFile)}.${process.pid}`);
  writeFileSync(draft, String(pid), { flag: 'wx' });
  try {
    renameSync(draft, pidFile);
  } catch (error) {
    rmSync(draft);
    throw error;
  }
}

function parseSignal(text: string): number {
  const word = text.toUpperCase();
  if (/^\d{1,2}$/.test(word) && Number(word) <= 64) return Number(word);
  try {
    return signalNumber((word.startsWith('SIG') ? word : `SIG${word}`) as NodeJS.Signals);
  } catch {
    throw new RuntimeError(`not a signal: ${JSON.stringify(text)}`);
  }
}

/**
 * The exit code of a process, as shells give it.
 *
 * @param exit - how it ended
 */
export function exitCode({ code, signal }: Pick<Exit, 'code' | 'signal'>): number {
  return code ?? 128 + (signal ? signalNumber(signal) : 0);
}
