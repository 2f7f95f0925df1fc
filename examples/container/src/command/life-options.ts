import { readFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { parseDetachKeys } from '../attach/detach-keys.js';
import { parseLabels } from '../label.js';
import { parseLogOptions } from '../log/container-log.js';
import { UsageError } from '../options.js';
import type { LifeFlags } from '../recipe.js';
import { parseSignal } from '../signal.js';
import { parseRestart } from '../supervise/restart.js';

/**
 * Adds docker's options on how a container lives.
 *
 * @param command - that gets them
 * @returns the command
 */
export function lifeOptions(command: Command): Command {
  return command
    .option('--rm', 'remove it when it has ended')
    .option('--restart <policy>', 'no, always, unless-stopped, on-failure[:N]', checked(parseRestart))
    .addOption(new Option('--log-driver <name>', 'how its output is kept').choices(['json-file', 'none']))
    .option('--log-opt <option>', 'max-size=BYTES, max-file=N', (text, all: string[] = []) => {
      const options = [...all, text];
      // max-file may come before max-size.
      parseLogOptions([...options, ...(/^max-file/.test(text) ? ['max-size=1'] : [])]);
      return options;
    })
    .option('--stop-signal <signal>', 'what it is stopped by, default the image’s, else TERM', checked(parseSignal))
    .option(
      '--stop-timeout <seconds>',
      'until it is killed when it is stopped, default 10',
      parseSeconds('--stop-timeout'),
    )
    .option('-l, --label <label>', 'NAME[=VALUE]', (text, all: string[] = []) => {
      parseLabels([text]);
      return [...all, text];
    })
    .addOption(
      new Option('--label-file <file>', 'labels, a line each').argParser((file: string, all: string[] = []) => [
        ...all,
        ...readLabels(file),
      ]),
    )
    .option('--cidfile <file>', 'write its id to a new file');
}

/** A parser's check alone: what is kept is what was typed. */
function checked(parse: (text: string) => unknown): (text: string) => string {
  return (text) => {
    parse(text);
    return text;
  };
}

function readLabels(file: string): string[] {
  const lines = readFileSync(file, 'utf8').split('\n');
  const labels = lines.map((line) => line.trim()).filter((line) => line !== '' && !line.startsWith('#'));
  parseLabels(labels);
  return labels;
}

/** Parses seconds; -1 is for ever. */
export function parseSeconds(option: string): (text: string) => number {
  return (text) => {
    if (!/^(-1|\d{1,9})$/.test(text))
      throw new UsageError(`${option} is seconds, or -1 for ever, not ${JSON.stringify(text)}`);
    return Number(text);
  };
}

/** Options of commands that join this process's streams with a container's. */
export function attachOptions(command: Command): Command {
  return command
    .option('--detach-keys <keys>', 'keys that let go of it, default ctrl-p,ctrl-q', checked(parseDetachKeys))
    .option('--sig-proxy [whether]', 'pass signals on, default true', parseWhether, true);
}

function parseWhether(text: string): boolean {
  if (text !== 'true' && text !== 'false')
    throw new UsageError(`--sig-proxy is true or false, not ${JSON.stringify(text)}`);
  return text === 'true';
}

/** Refuses options that do not go together. */
export function checkLife(flags: LifeFlags): void {
  const restart = parseRestart(flags.restart ?? 'no');
  if (flags.rm && restart.name !== 'no') throw new UsageError('conflicting options: --restart and --rm');
  parseLogOptions(flags.logOpt ?? []);
  if (flags.logDriver === 'none' && flags.logOpt?.length)
    throw new UsageError('--log-opt is for a log: --log-driver none has none');
}
