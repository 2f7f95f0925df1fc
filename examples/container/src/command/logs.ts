import { Command } from 'commander';
import { type LogEntry, logFile } from '../log/container-log.js';
import { rotatedEntries } from '../log/lines.js';
import { parseTime } from '../log/time.js';
import { UsageError } from '../options.js';
import { pass } from '../say.js';
import { home } from '../state/home.js';
import { containerDirectory, lookUp } from '../state/record.js';
import { current, isOver } from '../supervise/end.js';

interface LogsFlags {
  follow?: boolean;
  tail?: number;
  since?: number;
  until?: number;
  timestamps?: boolean;
}

/** `iso logs`. */
export const logs = new Command('logs')
  .description('print what a container has written')
  .argument('<container>', 'name or id')
  .option('-f, --follow', 'and what it writes until it has ended')
  .option('-n, --tail <lines>', 'only the last ones, or all', parseTail)
  .option('--since <time>', '2026-01-31T12:00:00Z, seconds since 1970, or 10m ago', parseTime)
  .option('--until <time>', 'the same', parseTime)
  .option('-t, --timestamps', 'with the time before each line')
  .action(async (word: string, flags: LogsFlags) => {
    const { id, flags: made } = lookUp(home(), word);
    if (made.logDriver === 'none') throw new UsageError(`container ${word} keeps no log: --log-driver none`);
    const over = () => {
      const state = current(home(), id);
      return !state || isOver(state);
    };
    const entries = rotatedEntries<LogEntry>(logFile(containerDirectory(home(), id)), {
      ...(flags.tail === undefined ? {} : { last: flags.tail }),
      ...(flags.follow ? { until: over } : {}),
    });
    for await (const { log, stream, time } of entries) {
      if (process.stdout.destroyed) return;
      const at = Date.parse(time);
      if (flags.since !== undefined && at < flags.since) continue;
      if (flags.until !== undefined && at > flags.until) return;
      pass(process[stream], flags.timestamps ? `${time} ${log}` : log);
    }
  });

function parseTail(text: string): number | undefined {
  if (text === 'all' || text === '-1') return undefined;
  if (!/^\d{1,15}$/.test(text)) throw new UsageError(`--tail is a number of lines or all, not ${JSON.stringify(text)}`);
  return Number(text);
}
