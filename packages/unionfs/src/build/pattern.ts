/** Patterns as Go has them (`path/filepath`), and docker with them: for names in COPY, and the lines of a .dockerignore. */
import { posix } from 'node:path';
import { invalid } from '@iso/sys';

/** Whether a text means more than itself as a pattern. */
export function isPattern(text: string): boolean {
  return /[*?[\\]/.test(text);
}

/**
 * One component of a pattern: `*`, `?`, `[a-z]`, `[^a-z]`, and `\` before what is meant as it is.
 *
 * @param pattern - without a slash
 * @returns what matches names
 * @throws `TypeError` for a class that does not end
 */
export function namePattern(pattern: string): RegExp {
  return new RegExp(`^${translate(pattern, false)}$`, 'su');
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
  const rules = lines.flatMap((line, i) => {
    const text = i === 0 ? line.replace(/^\ufeff/, '') : line;
    if (text.startsWith('#') || text.trim() === '') return [];
    const keep = text.trim().startsWith('!');
    const pattern = (keep ? text.trim().slice(1) : text).trim();
    if (pattern === '') throw invalid(`line ${i + 1} of what is ignored has nothing after the "!"`);
    const clean = posix.normalize(pattern).replace(/^\/(?=.)|(?<=.)\/$/g, '');
    return [{ keep, pattern: new RegExp(`^${translate(clean, true)}$`, 'su') }];
  });
  return {
    mayHold: rules.some(({ keep }) => keep),
    ignored(path) {
      const parts = path.split('/');
      const all = parts.map((_, i) => parts.slice(0, i + 1).join('/'));
      let out = false;
      for (const { keep, pattern } of rules) {
        if (keep === out && all.some((each) => pattern.test(each))) out = !keep;
      }
      return out;
    },
  };
}

/** As a regular expression. */
function translate(pattern: string, deep: boolean): string {
  let text = '';
  for (let i = 0; i < pattern.length; ) {
    const at = pattern[i] as string;
    if (deep && pattern.startsWith('**', i)) {
      i += pattern[i + 2] === '/' ? 3 : 2;
      text += i >= pattern.length ? '.*' : '(?:.*/)?';
    } else if (at === '[') {
      const end = classEnd(pattern, i);
      text += characterClass(pattern.slice(i + 1, end), pattern);
      i = end + 1;
    } else if (at === '\\') {
      if (i + 1 === pattern.length) throw invalid(`a pattern that ends in "\\": ${JSON.stringify(pattern)}`);
      const [character = ''] = pattern.slice(i + 1);
      text += literal(character);
      i += 1 + character.length;
    } else {
      const [character = ''] = pattern.slice(i);
      text += at === '*' ? '[^/]*' : at === '?' ? '[^/]' : literal(character);
      i += character.length;
    }
  }
  return text;
}

function classEnd(pattern: string, start: number): number {
  for (let i = start + 1; i < pattern.length; i++) {
    if (pattern[i] === '\\') i++;
    else if (pattern[i] === ']' && i > start + 1) return i;
  }
  throw invalid(`a pattern with a "[" that does not end: ${JSON.stringify(pattern)}`);
}

function characterClass(inside: string, pattern: string): string {
  const not = inside.startsWith('^');
  const characters = [...(not ? inside.slice(1) : inside)];
  const parts: string[] = [];
  for (let i = 0; i < characters.length; i++) {
    const one = characters[i] === '\\' ? characters[++i] : characters[i];
    if (one === undefined) throw invalid(`not a pattern: ${JSON.stringify(pattern)}`);
    if (characters[i + 1] === '-' && i + 2 < characters.length) {
      i += 2;
      const last = characters[i] === '\\' ? characters[++i] : characters[i];
      if (last === undefined || last < one) throw invalid(`not a range: ${JSON.stringify(pattern)}`);
      parts.push(`${literal(one)}-${literal(last)}`);
    } else parts.push(literal(one));
  }
  return not ? `[^/${parts.join('')}]` : `(?!/)[${parts.join('')}]`;
}

function literal(character: string): string {
  return /[\w\s]/.test(character) || character > '\x7f' ? character : `\\u{${character.codePointAt(0)?.toString(16)}}`;
}
