import { Command, Option } from 'commander';
import { readResources } from '../config/read.js';
import { Container } from '../container/container.js';
import { DamagedError, RuntimeError } from '../error.js';
import { openContainer, openStore } from './options.js';

const say = (text: string) => void process.stdout.write(`${text}\n`);
const formats = () => new Option('-f, --format <format>').choices(['table', 'json']).default('table');

/** `iso-oci state`. */
export const state = new Command('state')
  .description('what it is now, as JSON')
  .argument('<id>')
  .action(async (id: string, _: object, command: Command) =>
    say(JSON.stringify(await openContainer(command.optsWithGlobals(), id).state(), null, 2)),
  );

/** `iso-oci list`. */
export const list = new Command('list')
  .description('the containers of this root')
  .option('-q, --quiet', 'only their ids')
  .addOption(formats())
  .action(async (flags: { quiet?: boolean; format: string }, command: Command) => {
    const store = openStore(command.optsWithGlobals());
    const all = store.ids().map((id) => new Container(store, id));
    if (flags.quiet) return say(store.ids().join('\n'));
    const rows = [];
    for (const container of all) {
      try {
        const { pid = 0, ...rest } = await container.state();
        rows.push({ ...rest, pid, created: container.saved().created });
      } catch (error) {
        if (error instanceof DamagedError) process.emitWarning(error.message);
        // Else it is being made, or was removed meanwhile.
        else if (!(error instanceof RuntimeError)) throw error;
      }
    }
    if (flags.format === 'json') return say(JSON.stringify(rows));
    say(['ID', 'PID', 'STATUS', 'BUNDLE', 'CREATED'].join('\t'));
    for (const { id, pid, status, bundle, created } of rows) say([id, pid, status, bundle, created].join('\t'));
  });

/** `iso-oci ps`. */
export const ps = new Command('ps')
  .description('numbers of its processes')
  .argument('<id>')
  .addOption(formats())
  .action(async (id: string, { format }: { format: string }, command: Command) => {
    const pids = await openContainer(command.optsWithGlobals(), id).pids();
    say(format === 'json' ? JSON.stringify(pids) : ['PID', ...pids].join('\n'));
  });

/** `iso-oci events`. */
export const events = new Command('events')
  .description('what it uses, as JSON')
  .argument('<id>')
  .option('--stats', 'once')
  .option('--interval <seconds>', 'how often', Number, 5)
  .action(async (id: string, flags: { stats?: boolean; interval: number }, command: Command) => {
    const container = openContainer(command.optsWithGlobals(), id);
    do {
      say(JSON.stringify({ type: 'stats', id, data: await container.stats() }));
      if (!flags.stats) await new Promise((resolve) => setTimeout(resolve, flags.interval * 1000));
    } while (!flags.stats && (await container.state()).status !== 'stopped');
  });

/** `iso-oci pause`. */
export const pause = new Command('pause')
  .description('freeze its processes')
  .argument('<id>')
  .action((id: string, _: object, command: Command) => openContainer(command.optsWithGlobals(), id).pause());

/** `iso-oci resume`. */
export const resume = new Command('resume')
  .description('let them go on')
  .argument('<id>')
  .action((id: string, _: object, command: Command) => openContainer(command.optsWithGlobals(), id).resume());

/** `iso-oci update`. */
export const update = new Command('update')
  .description('change its limits')
  .argument('<id>')
  .requiredOption('-r, --resources <path>', 'JSON of linux.resources, - for standard input')
  .action(async (id: string, { resources }: { resources: string }, command: Command) => {
    await openContainer(command.optsWithGlobals(), id).update(await readResources(resources));
  });
