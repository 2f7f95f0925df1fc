import type { Command } from 'commander';
import { say } from '../say.js';
import { render } from './template.js';

/** Gives a command the option for {@link show}. */
export function formatted(command: Command): Command {
  return command.option('-f, --format <template>', 'instead of all, such as {{.State.Status}}; json: in one line');
}

/**
 * Prints what is known of things, as docker's `inspect` does.
 *
 * @param found - one of each
 * @param format - a template for each; `json` for all in one line; undefined for JSON to be read
 * @throws {@link UsageError} for a template that is none
 */
export function show(found: readonly object[], format: string | undefined): void {
  if (format === undefined) say(process.stdout, `${JSON.stringify(found, null, 4)}\n`);
  else if (format === 'json') say(process.stdout, `${JSON.stringify(found)}\n`);
  else for (const one of found) say(process.stdout, `${render(format, one)}\n`);
}
