import { Command, CommanderError, Option } from 'commander';
import { tell } from './log.js';

/** Each is loaded when it is asked for. */
const commands: Record<string, () => Promise<Command>> = {
  create: async () => (await import('./command/life.js')).create,
  start: async () => (await import('./command/life.js')).start,
  run: async () => (await import('./command/life.js')).run,
  kill: async () => (await import('./command/life.js')).kill,
  delete: async () => (await import('./command/life.js')).delete_,
  exec: async () => (await import('./command/exec.js')).exec,
  state: async () => (await import('./command/look.js')).state,
  list: async () => (await import('./command/look.js')).list,
  ps: async () => (await import('./command/look.js')).ps,
  events: async () => (await import('./command/look.js')).events,
  pause: async () => (await import('./command/look.js')).pause,
  resume: async () => (await import('./command/look.js')).resume,
  update: async () => (await import('./command/look.js')).update,
  spec: async () => (await import('./command/describe.js')).spec,
  features: async () => (await import('./command/describe.js')).features,
};

const VERSION = 'iso-oci 0.1.0\nspec: 1.2.0';

const iso = new Command('iso-oci')
  .description('An OCI runtime')
  .version(VERSION, '-v, --version')
  .enablePositionalOptions()
  .option('--root <directory>', 'where containers are kept')
  .option('--log <path>', 'file for errors')
  .addOption(new Option('--log-format <format>').choices(['text', 'json']).default('text'))
  .option('--debug', 'ignored')
  .option('--systemd-cgroup', 'cgroups by systemd')
  .addOption(new Option('--cgroup-manager <name>').choices(['cgroupfs', 'systemd', 'disabled']))
  .option('--rootless <when>', 'ignored: it is found out');

/** Runs the command line of this process. */
async function main(): Promise<void> {
  const asked = process.argv.slice(2).find((word) => Object.hasOwn(commands, word));
  const wanted = asked === undefined ? Object.keys(commands) : [asked];
  for (const name of wanted) iso.addCommand(await (commands[name] as () => Promise<Command>)());
  for (const command of [iso, ...iso.commands]) command.exitOverride();
  // Node's own way to show them is for whoever writes programs.
  process.removeAllListeners('warning').on('warning', ({ message }) => tell('warning', message, iso.opts()));
  try {
    await iso.parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 1;
    else {
      tell('error', error instanceof Error ? error.message : String(error), iso.opts());
      process.exitCode = 1;
    }
  }
}

void main();
