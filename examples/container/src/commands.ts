import { Command } from 'commander';
import { ASK } from './completion/ask.js';
import { complain } from './say.js';
import { isoVersion } from './version.js';

/** Each command with what it needs is loaded when it is asked for: a container starts sooner than all of them load. */
export const commands: Readonly<Record<string, () => Promise<Command>>> = {
  create: async () => (await import('./command/create.js')).create,
  start: async () => (await import('./command/start.js')).start,
  run: async () => (await import('./command/run.js')).run,
  exec: async () => (await import('./command/exec.js')).exec,
  attach: async () => (await import('./command/attach.js')).attach,
  logs: async () => (await import('./command/logs.js')).logs,
  stop: async () => (await import('./command/stop.js')).stop,
  restart: async () => (await import('./command/stop.js')).restart,
  wait: async () => (await import('./command/wait.js')).wait,
  rm: async () => (await import('./command/rm.js')).rm,
  rename: async () => (await import('./command/rename.js')).rename,
  top: async () => (await import('./command/top.js')).top,
  inspect: async () => (await import('./command/inspect.js')).inspect,
  events: async () => (await import('./command/events.js')).events,
  info: async () => (await import('./command/info.js')).info,
  version: async () => (await import('./command/version.js')).version,
  ps: async () => (await import('./command/ps.js')).ps,
  kill: async () => (await import('./command/kill.js')).kill,
  stats: async () => (await import('./command/stats.js')).stats,
  pause: async () => (await import('./command/pause.js')).pause,
  unpause: async () => (await import('./command/pause.js')).unpause,
  update: async () => (await import('./command/update.js')).update,
  build: async () => (await import('./command/build.js')).build,
  images: async () => (await import('./command/images.js')).images,
  import: async () => (await import('./command/import.js')).import_,
  load: async () => (await import('./command/load.js')).load,
  save: async () => (await import('./command/save.js')).save,
  pull: async () => (await import('./command/pull.js')).pull,
  push: async () => (await import('./command/push.js')).push,
  tag: async () => (await import('./command/tag.js')).tag,
  rmi: async () => (await import('./command/rmi.js')).rmi,
  history: async () => (await import('./command/history.js')).history,
  image: async () => (await import('./command/image.js')).image,
  commit: async () => (await import('./command/commit.js')).commit,
  cp: async () => (await import('./command/cp.js')).cp,
  export: async () => (await import('./command/export.js')).export_,
  diff: async () => (await import('./command/diff.js')).diff,
  system: async () => (await import('./command/system.js')).system,
  network: async () => (await import('./command/network.js')).network,
  port: async () => (await import('./command/port.js')).port,
  doctor: async () => (await import('./command/doctor.js')).doctor,
  completion: async () => (await import('./command/completion.js')).completion,
  [ASK]: async () => (await import('./command/completion.js')).ask,
};

/**
 * The command `iso` with some of its commands.
 *
 * @param names - which; default all
 */
export async function load(names: readonly string[] = Object.keys(commands)): Promise<Command> {
  const iso = new Command('iso')
    .description('Containers from Node, without a daemon')
    .version(isoVersion)
    .enablePositionalOptions();
  const loaded = await Promise.all(names.map((name) => (commands[name] as () => Promise<Command>)()));
  for (const command of loaded) iso.addCommand(command, { hidden: command.name() === ASK });
  for (const command of [iso, ...loaded, ...loaded.flatMap(({ commands: inner }) => inner)]) {
    command
      .showSuggestionAfterError()
      .configureOutput({ outputError: (text) => complain(text.replace(/^error: /, '')) })
      .exitOverride();
  }
  return iso;
}
