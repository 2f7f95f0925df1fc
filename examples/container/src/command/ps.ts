import { Command } from 'commander';
import { type Filters, matches, parseFilter } from '../inspect/filter.js';
import { listing } from '../inspect/listing.js';
import { describe as describeRow } from '../inspect/row.js';
import { UsageError } from '../options.js';
import { say } from '../say.js';
import { clean } from '../state/clean.js';
import { home } from '../state/home.js';
import { isLive, listContainers } from '../state/record.js';

interface PsFlags {
  all?: boolean;
  quiet?: boolean;
  latest?: boolean;
  last?: number;
  trunc: boolean;
  filter?: Filters;
  format?: string;
}

const columns = [
  ['CONTAINER ID', 'ID'],
  ['IMAGE', 'Image'],
  ['COMMAND', 'Command'],
  ['CREATED', 'RunningFor'],
  ['STATUS', 'Status'],
  ['PORTS', 'Ports'],
  ['NAMES', 'Names'],
] as const;

/** `iso ps`. */
export const ps = new Command('ps')
  .description('list the containers of this user that run')
  .option('-a, --all', 'and those that do not')
  .option('-q, --quiet', 'only their ids')
  .option('-l, --latest', 'the one that was made last, running or not')
  .option('-n, --last <number>', 'so many of those', parseNumber)
  .option('--no-trunc', 'ids and commands in full')
  .option(
    '-f, --filter <filter>',
    'id=, name=, label=, status=, exited=, health=, ancestor=, restart-policy=, should-start-on-boot=',
    parseFilter,
  )
  .option('--format <format>', 'json, table, or a template, such as {{.Names}}')
  .action(async (flags: PsFlags) => {
    await clean(home());
    const last = flags.latest ? 1 : flags.last;
    const filter = flags.filter ?? {};
    const all = flags.all || last !== undefined || filter.status || filter.exited;
    const containers = listContainers(home())
      .reverse()
      .filter((container) => all || isLive(container) || container.status === 'restarting')
      .filter((container) => matches(container, filter))
      .slice(0, last);
    const rows = await Promise.all(containers.map((container) => describeRow(container, flags.trunc)));
    const lines = flags.quiet ? rows.map(({ ID }) => ID) : listing(rows, flags.format ?? 'table', columns);
    if (lines.length) say(process.stdout, `${lines.join('\n')}\n`);
  });

function parseNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new UsageError(`--last is a number, not ${JSON.stringify(text)}`);
  return Number(text);
}
