import type { Command } from 'commander';
import { parseDuration } from '../duration.js';
import { UsageError } from '../options.js';

/**
 * Adds docker's options on whether a container is well.
 *
 * @param command - that gets them
 * @returns the command
 */
export function healthOptions(command: Command): Command {
  return command
    .option('--health-cmd <command>', 'a shell’s line that ends with 0 where it is well')
    .option('--health-interval <time>', 'between two of those, default 30s', parseTime('--health-interval'))
    .option('--health-timeout <time>', 'it fails after, default 30s', parseTime('--health-timeout'))
    .option('--health-retries <number>', 'failures in a row that make it unhealthy, default 3', parseRetries)
    .option('--health-start-period <time>', 'failures do not count yet', parseTime('--health-start-period'))
    .option(
      '--health-start-interval <time>',
      'the interval meanwhile, default 5s',
      parseTime('--health-start-interval'),
    )
    .option('--no-healthcheck', 'not even where the image has one');
}

function parseTime(option: string): (text: string) => number {
  return (text) => {
    const ms = parseDuration(text);
    if (ms === undefined || (ms > 0 && ms < 1))
      throw new UsageError(`${option} is a time of a millisecond or more, such as 1m30s, not ${JSON.stringify(text)}`);
    return ms;
  };
}

function parseRetries(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new UsageError(`--health-retries is a number, not ${JSON.stringify(text)}`);
  return Number(text);
}
