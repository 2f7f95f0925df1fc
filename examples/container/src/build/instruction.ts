import { DockerfileParser, type Instruction as Parsed } from 'dockerfile-ast';
import { UsageError } from '../options.js';

/** One instruction of a Dockerfile, its lines joined. */
export interface Instruction {
  /** In capital letters. */
  keyword: string;
  /** `--name=value` before the arguments; without a value `true`. Some may be given several times. */
  flags: ReadonlyMap<string, readonly [string, ...string[]]>;
  /** What follows; comments in between and line ends are gone. */
  rest: string;
  heredocs: readonly Heredoc[];
  /** Of its first line, from 1. */
  line: number;
  /** The character that takes the next one's meaning away, `\` or a backtick. */
  escaper: string;
}

/** Text that stands below an instruction. */
interface Heredoc {
  name: string;
  content: string;
  /** Its name is not in quotes: variables count. */
  expand: boolean;
}

/** An instruction that is wrong. */
export class DockerfileError extends UsageError {
  /**
   * @param file - name of the Dockerfile
   * @param line - from 1
   * @param message - what is wrong
   */
  constructor(file: string, line: number, message: string) {
    super(`${file}:${line}: ${message}`);
  }
}

/**
 * Takes a Dockerfile apart. What its arguments mean is for whoever reads the instruction.
 *
 * @param text - of the file
 * @param file - its name, for messages
 * @returns instructions, in their order
 * @throws DockerfileError
 */
export function parseInstructions(text: string, file: string): Instruction[] {
  const lines = text.replace(/^\ufeff/, '').split(/\r?\n/);
  const parsed = DockerfileParser.parse(lines.join('\n'));
  const escaper = parsed.getEscapeCharacter();
  return parsed.getInstructions().map((each) => instruction(each, lines, escaper, file));
}

function instruction(parsed: Parsed, lines: readonly string[], escaper: string, file: string): Instruction {
  const { start, end } = parsed.getRange();
  const line = start.line + 1;
  const fail = (message: string) => new DockerfileError(file, line, message);
  const keyword = parsed.getKeyword();
  const known = 'getHeredocs' in parsed ? (parsed as unknown as { getHeredocs(): HeredocRange[] }).getHeredocs() : [];
  let last = end.line;
  let next = 0;
  const heredocs = known.map((heredoc, i): Heredoc => {
    const over = heredoc.getDelimiterRange();
    if (!over) throw fail(`the text <<${heredoc.getName()} does not end`);
    if (i === 0) next = heredoc.getContentRange()?.start.line ?? over.start.line;
    if (i === 0) last = next - 1;
    const begin = heredoc.getStartRange().start;
    const [, tabs, quote] = /^<<(-?)(["']?)/.exec((lines[begin.line] as string).slice(begin.character)) ?? [];
    const body = lines.slice(next, over.start.line).map((each) => (tabs ? each.replace(/^\t+/, '') : each));
    next = over.start.line + 1;
    return { name: heredoc.getName(), content: body.map((each) => `${each}\n`).join(''), expand: quote === '' };
  });
  const [head = '', ...more] = lines.slice(start.line, last + 1);
  const joined = join([head.slice(start.character), ...more], escaper).trim();
  const { flags, rest } = splitFlags(joined.slice(keyword.length).trim(), fail);
  return { keyword, flags, rest, heredocs, line, escaper };
}

interface HeredocRange {
  getName(): string;
  getStartRange(): { start: { line: number; character: number } };
  getContentRange(): { start: { line: number } } | null;
  getDelimiterRange(): { start: { line: number } } | null;
}

/** Lines that an escape character continues; comments and empty lines among them do not count. */
function join(lines: readonly string[], escaper: string): string {
  const end = escaper === '\\' ? /\\[ \t]*$/ : /`[ \t]*$/;
  return lines
    .filter((line, i) => i === 0 || !/^\s*(#|$)/.test(line))
    .map((line) => line.replace(end, ''))
    .join('');
}

/** Flags that add up. */
const SEVERAL = ['exclude', 'mount'];

function splitFlags(text: string, fail: (message: string) => Error): Pick<Instruction, 'flags' | 'rest'> {
  const flags = new Map<string, [string, ...string[]]>();
  let rest = text;
  for (;;) {
    const [all, name, value = 'true'] = /^--([a-z][a-z-]*)(?:=(\S*))?(?:\s+|$)/.exec(rest) ?? [];
    if (all === undefined || name === undefined) return { flags, rest };
    const before = flags.get(name);
    if (before && !SEVERAL.includes(name)) throw fail(`--${name} is given twice`);
    flags.set(name, before ? [...before, value] : [value]);
    rest = rest.slice(all.length);
  }
}
