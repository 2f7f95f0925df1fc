/** Patterns as Go has them (`path/filepath`), and docker with them: for names in COPY, and the lines of a .dockerignore. */
import { posix } from 'node:path';
import { inspect } from 'node:util';
import { invalid } from '@iso/sys';
import { checkArgument } from '../file/argument.js';

/** Whether a text means more than itself as a pattern. */
export function isPattern(text: string): boolean {
  return /[*?[\\]/.test(text);
}

/** A part of a pattern: a character of some set, `*`, `**` at the end, `**` and a slash. */
type Token = ((point: number) => boolean) | 'name' | 'all' | 'directories';

const SLASH = 0x2f;
const MINUS = 0x2d;
const BACKSLASH = 0x5c;

/**
 * A pattern, made ready. All ways through it are followed at once: the time is that of the name's length times the pattern's, whatever
 * either holds.
 */
export class Pattern {
  readonly #tokens: readonly Token[];

  /**
   * @param text - the pattern
   * @param deep - `**` stands for any number of directories
   * @throws `TypeError` for what is no pattern
   */
  constructor(text: string, deep: boolean) {
    this.#tokens = tokens(text, deep);
  }

  /** Whether it matches all of a text. */
  test(text: string): boolean {
    return this.#run(text, false);
  }

  /** Whether it matches a path, or a directory that this lies in. */
  testAbove(path: string): boolean {
    return this.#run(path, true);
  }

  #run(text: string, above: boolean): boolean {
    const all = this.#tokens;
    const end = all.length;
    // What may come next, in ascending order: numbers of tokens; the last one is the end of the pattern.
    let now: number[] = [];
    let next: number[] = [];
    const enter = (into: number[], from: number) => {
      for (let i = from; ; i++) {
        if ((into.at(-1) ?? -1) < i) into.push(i);
        // These may stand for nothing, and then what follows comes next.
        if (i === end || typeof all[i] === 'function') return;
      }
    };
    enter(now, 0);
    for (const character of text) {
      const point = character.codePointAt(0) as number;
      if (above && point === SLASH && now.at(-1) === end) return true;
      next.length = 0;
      for (const i of now) {
        const token = all[i];
        if (typeof token === 'function') {
          if (token(point)) enter(next, i + 1);
        } else if (token === 'all' || (token === 'name' && point !== SLASH)) enter(next, i);
        else if (token === 'directories') {
          // More of them, or with this slash they end.
          if ((next.at(-1) ?? -1) < i) next.push(i);
          if (point === SLASH) enter(next, i + 1);
        }
      }
      [now, next] = [next, now];
      if (now.length === 0) return false;
    }
    return now.at(-1) === end;
  }
}

/**
 * One component of a pattern: `*`, `?`, `[a-z]`, `[^a-z]`, and `\` before what is meant as it is.
 *
 * @param pattern - without a slash
 * @returns what matches names
 * @throws `TypeError` for a class that does not end
 */
export function namePattern(pattern: string): Pattern {
  return new Pattern(pattern, false);
}

/**
 * Lines of a .dockerignore file as docker reads them: the last line that matches a file or a directory above it decides, `!` brings
 * back, `**` stands for any number of directories.
 *
 * @param lines - as in the file, with comments and empty lines
 * @returns what tells of a path, without a slash in front, whether it is left out; and whether something below it may be brought back
 * @throws `TypeError` for a line that is no pattern
 */
export function ignorePatterns(lines: readonly string[]): { ignored(path: string): boolean; mayHold: boolean } {
  checkArgument('what is ignored', lines, 'a list');
  const rules = lines.flatMap((line, i) => {
    if (typeof line !== 'string') throw invalid(`line ${i + 1} of what is ignored is no text: ${inspect(line)}`);
    const text = i === 0 ? line.replace(/^\ufeff/, '') : line;
    if (text.startsWith('#') || text.trim() === '') return [];
    const keep = text.trim().startsWith('!');
    const pattern = (keep ? text.trim().slice(1) : text).trim();
    if (pattern === '') throw invalid(`line ${i + 1} of what is ignored has nothing after the "!"`);
    const clean = posix.normalize(pattern).replace(/^\/(?=.)|(?<=.)\/$/g, '');
    return [{ keep, pattern: new Pattern(clean, true) }];
  });
  return {
    mayHold: rules.some(({ keep }) => keep),
    ignored(path) {
      let out = false;
      for (const { keep, pattern } of rules) {
        if (keep === out && pattern.testAbove(path)) out = !keep;
      }
      return out;
    },
  };
}

function tokens(pattern: string, deep: boolean): Token[] {
  const all: Token[] = [];
  for (let i = 0; i < pattern.length; ) {
    const at = pattern[i] as string;
    if (deep && pattern.startsWith('**', i)) {
      i += pattern[i + 2] === '/' ? 3 : 2;
      all.push(i >= pattern.length ? 'all' : 'directories');
    } else if (at === '[') {
      const end = classEnd(pattern, i);
      all.push(characterClass(pattern.slice(i + 1, end), pattern));
      i = end + 1;
    } else if (at === '\\') {
      if (i + 1 === pattern.length) throw invalid(`a pattern that ends in "\\": ${JSON.stringify(pattern)}`);
      const point = pattern.codePointAt(i + 1) as number;
      all.push((other) => other === point);
      i += 1 + String.fromCodePoint(point).length;
    } else {
      const point = pattern.codePointAt(i) as number;
      if (at === '*') all.push('name');
      else if (at === '?') all.push((other) => other !== SLASH);
      else all.push((other) => other === point);
      i += String.fromCodePoint(point).length;
    }
  }
  return all;
}

function classEnd(pattern: string, start: number): number {
  for (let i = start + 1; i < pattern.length; i++) {
    if (pattern[i] === '\\') i++;
    else if (pattern[i] === ']' && i > start + 1) return i;
  }
  throw invalid(`a pattern with a "[" that does not end: ${JSON.stringify(pattern)}`);
}

function characterClass(inside: string, pattern: string): Token {
  const not = inside.startsWith('^');
  const points = [...(not ? inside.slice(1) : inside)].map((character) => character.codePointAt(0) as number);
  const ranges: [first: number, last: number][] = [];
  for (let i = 0; i < points.length; i++) {
    const one = points[i] === BACKSLASH ? points[++i] : points[i];
    if (one === undefined) throw invalid(`not a pattern: ${JSON.stringify(pattern)}`);
    let last: number | undefined = one;
    if (points[i + 1] === MINUS && i + 2 < points.length) {
      i += 2;
      last = points[i] === BACKSLASH ? points[++i] : points[i];
      if (last === undefined || last < one) throw invalid(`not a range: ${JSON.stringify(pattern)}`);
    }
    ranges.push([one, last]);
  }
  return (point) => point !== SLASH && ranges.some(([first, last]) => first <= point && point <= last) !== not;
}
