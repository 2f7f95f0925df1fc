import type { Argument, Command, Option } from 'commander';
import { valuesOf } from './values.js';

/** What may be typed in a place. */
export interface Candidate {
  word: string;
  description: string;
}

/** Names that are no words of the command itself. */
export type Names = (kind: 'container' | 'image' | 'network') => Promise<readonly string[]>;

/**
 * What may be typed next, by the definition of the commands alone.
 *
 * @param root - the command `iso`, with all that may be meant
 * @param words - what is typed after it; the last one is the one that is completed, perhaps empty
 * @param names - looks names of containers and the like up
 * @returns candidates that begin with the last word; undefined where only the shell knows, files for example
 */
export async function complete(
  root: Command,
  words: readonly string[],
  names: Names,
): Promise<Candidate[] | undefined> {
  const before = words.slice(0, -1);
  const current = words.at(-1) ?? '';
  let command = root;
  let args = 0;
  let pending: Option | undefined;
  for (const word of before) {
    if (pending) pending = undefined;
    else if (word.startsWith('-') && word !== '-') pending = optionThatWaits(command, word);
    else {
      const inner: Command | undefined = args === 0 ? command.commands.find((one) => one.name() === word) : undefined;
      if (inner) command = inner;
      else args += 1;
    }
    // What follows is the container's own.
    if (args > 0 && passesThrough(command)) return undefined;
  }
  const found = await candidates(command, { current, args, pending }, names);
  return found?.filter(({ word }) => word.startsWith(current));
}

interface Place {
  current: string;
  /** How many arguments there are before. */
  args: number;
  /** The option whose value it is. */
  pending: Option | undefined;
}

async function candidates(
  command: Command,
  { current, args, pending }: Place,
  names: Names,
): Promise<Candidate[] | undefined> {
  const words = async (option: Option, prefix: string) => bare(await valuesOf(command, option, names), prefix);
  if (pending) return await words(pending, '');
  const [, name] = /^(--[\w-]+)=/.exec(current) ?? [];
  const assigned = name === undefined ? undefined : command.options.find(({ long }) => long === name);
  if (assigned) return await words(assigned, `${name}=`);
  if (current.startsWith('-')) return optionsOf(command);
  const inner = command.createHelp().visibleCommands(command);
  if (inner.length > 0 && args === 0) return inner.map((one) => ({ word: one.name(), description: one.description() }));
  const argument = command.registeredArguments[args] ?? command.registeredArguments.at(-1);
  if (!argument || (args >= command.registeredArguments.length && !argument.variadic)) return [];
  if (argument.argChoices) return bare(argument.argChoices, '');
  const kind = kindOf(argument);
  if (!kind) return undefined;
  const found = (await names(kind)).map((word) => ({ word, description: kind }));
  // Of the host's directories only the shell knows.
  return argument.name() === 'root' && !found.some(({ word }) => word.startsWith(current)) ? undefined : found;
}

function optionsOf(command: Command): Candidate[] {
  return command
    .createHelp()
    .visibleOptions(command)
    .flatMap(({ short, long, description }) => [long, short].flatMap((word) => (word ? { word, description } : [])));
}

function bare(words: readonly string[] | undefined, prefix: string): Candidate[] | undefined {
  return words?.map((word) => ({ word: `${prefix}${word}`, description: '' }));
}

/** The option whose value is the next word: `--memory`, `-m`, `-itm`, but not `--memory=64m` and `-m64m`. */
function optionThatWaits({ options }: Command, word: string): Option | undefined {
  if (word.startsWith('--')) return options.find(({ long, required }) => long === word && required);
  const letters = [...word.slice(1)];
  for (const [i, letter] of letters.entries()) {
    const option = options.find(({ short }) => short === `-${letter}`);
    if (!option) return undefined;
    if (option.required) return i === letters.length - 1 ? option : undefined;
  }
  return undefined;
}

/** Commander tells it nobody, but acts by it. */
function passesThrough(command: Command): boolean {
  return (command as unknown as { _passThroughOptions: boolean })._passThroughOptions;
}

function kindOf(argument: Argument): 'container' | 'image' | 'network' | undefined {
  const name = argument.name();
  return name === 'root' ? 'image' : name === 'container' || name === 'image' || name === 'network' ? name : undefined;
}
