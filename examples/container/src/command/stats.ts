import { setTimeout as sleep } from 'node:timers/promises';
import { CgroupError } from '@iso/cgroups';
import { Command, Option } from 'commander';
import { pass, say } from '../say.js';
import { home } from '../state/home.js';
import { findContainer, isLive, type LiveContainer, listContainers } from '../state/record.js';
import { table } from '../table.js';
import { Usage } from '../usage.js';

interface StatsFlags {
  stream: boolean;
  trunc: boolean;
  format: 'table' | 'json';
}

const INTERVAL_MS = 1000;
/** Cursor to the corner, the rest of the screen cleared. */
const HOME = '\x1b[H\x1b[J';

/** `iso stats`. */
export const stats = new Command('stats')
  .description('what containers use, every second')
  .argument('[container...]', 'name or id, default all that run')
  .option('--no-stream', 'once')
  .option('--no-trunc', 'ids in full')
  .addOption(new Option('--format <format>', 'how').choices(['table', 'json']).default('table'))
  .action(async (words: string[], flags: StatsFlags) => {
    const watched = new Map<string, Usage>();
    try {
      // Who is named must be there.
      await look(watched, words.length ? words.map((word) => findContainer(home(), word)) : running());
      for (;;) {
        await sleep(INTERVAL_MS);
        const rows = read(watched, flags);
        // The first line of each time of a terminal's replaces the last time's.
        const fresh = flags.stream && flags.format === 'table' && process.stdout.isTTY ? HOME : '';
        const lines = flags.format === 'json' ? rows.map((row) => JSON.stringify(row)) : tableOf(rows);
        if (fresh) pass(process.stdout, fresh);
        say(process.stdout, lines.map((line) => `${line}\n`).join(''));
        if (!flags.stream || (words.length && watched.size === 0) || process.stdout.destroyed) return;
        if (words.length === 0) await look(watched, running());
      }
    } finally {
      for (const usage of watched.values()) usage[Symbol.dispose]();
    }
  });

function running(): LiveContainer[] {
  return listContainers(home()).filter(isLive);
}

/** Begins to watch those that are not watched yet. */
async function look(watched: Map<string, Usage>, containers: readonly LiveContainer[]): Promise<void> {
  for (const container of containers) {
    if (watched.has(container.id)) continue;
    try {
      watched.set(container.id, await Usage.open(container));
    } catch (error) {
      // It has ended since it was listed.
      if (!CgroupError.is(error, 'removed')) throw error;
    }
  }
}

/** Docker's names. */
function read(watched: Map<string, Usage>, { trunc }: StatsFlags): Record<string, string>[] {
  return [...watched].flatMap(([id, usage]) => {
    try {
      return [{ Container: usage.name, ID: trunc ? id.slice(0, 12) : id, Name: usage.name, ...usage.read() }];
    } catch (error) {
      if (!CgroupError.is(error, 'removed')) throw error;
      usage[Symbol.dispose]();
      watched.delete(id);
      return [];
    }
  });
}

function tableOf(rows: readonly Record<string, string>[]): string[] {
  const columns = [
    ['CONTAINER ID', 'ID'],
    ['NAME', 'Name'],
    ['CPU %', 'CPUPerc'],
    ['MEM USAGE / LIMIT', 'MemUsage'],
    ['MEM %', 'MemPerc'],
    ['NET I/O', 'NetIO'],
    ['BLOCK I/O', 'BlockIO'],
    ['PIDS', 'PIDs'],
  ] as const;
  return table([columns.map(([title]) => title), ...rows.map((row) => columns.map(([, key]) => row[key] ?? '--'))]);
}
