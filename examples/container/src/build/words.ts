/** Words of a Dockerfile and the variables in them, as docker's own shell-like lexer has them. */
import { UsageError } from '../options.js';

/** Values of variables by name. */
export type Variables = Readonly<Record<string, string>>;

/**
 * Splits at spaces that are not in quotes; quotes and escapes stay.
 *
 * @param text - arguments
 * @param escaper - the escape character
 * @returns words
 */
export function splitWords(text: string, escaper: string): string[] {
  const words: string[] = [];
  let word = '';
  let quote = '';
  for (let i = 0; i < text.length; i++) {
    const at = text[i] as string;
    if (at === escaper && quote !== "'") {
      word += at + (text[++i] ?? '');
      continue;
    }
    if (quote ? at === quote : at === '"' || at === "'") quote = quote ? '' : at;
    if (!quote && /\s/.test(at)) {
      if (word) words.push(word);
      word = '';
    } else word += at;
  }
  return word ? [...words, word] : words;
}

/**
 * Puts the values of variables in, and takes quotes and escapes away.
 *
 * @param word - as it was written
 * @param variables - by name; those that are not there are empty
 * @param options - the escape character; `quotes` false where they are text
 * @returns its meaning
 * @throws {@link UsageError} for quotes and braces that do not end, and for `${NAME:?why}`
 */
export function substitute(word: string, variables: Variables, options: { escaper: string; quotes?: boolean }): string {
  const lexer = new Lexer(word, variables, options.escaper, options.quotes ?? true);
  return lexer.read('');
}

class Lexer {
  readonly #text: string;
  readonly #variables: Variables;
  readonly #escaper: string;
  readonly #quotes: boolean;
  #at = 0;

  constructor(text: string, variables: Variables, escaper: string, quotes: boolean) {
    this.#text = text;
    this.#variables = variables;
    this.#escaper = escaper;
    this.#quotes = quotes;
  }

  /** Up to a character that is not taken; an empty one is the end of the text. */
  read(stop: string): string {
    let out = '';
    for (; this.#at < this.#text.length; ) {
      const at = this.#text[this.#at] as string;
      if (at === stop) return out;
      this.#at++;
      if (at === "'" && this.#quotes) out += this.#single();
      else if (at === '"' && this.#quotes) out += this.#double();
      else if (at === '$') out += this.#variable();
      else if (at === this.#escaper) out += this.#escaped();
      else out += at;
    }
    if (stop) throw new UsageError(`a "${stop}" is missing in ${JSON.stringify(this.#text)}`);
    return out;
  }

  #escaped(): string {
    const next = this.#text[this.#at++];
    // Nothing is lost of an escape that ends the text, nor of one that means nothing where quotes do not.
    if (next === undefined) return this.#escaper;
    return this.#quotes || next === '$' || next === this.#escaper ? next : this.#escaper + next;
  }

  #single(): string {
    const end = this.#text.indexOf("'", this.#at);
    if (end < 0) throw new UsageError(`a "'" is missing in ${JSON.stringify(this.#text)}`);
    const inside = this.#text.slice(this.#at, end);
    this.#at = end + 1;
    return inside;
  }

  #double(): string {
    let out = '';
    for (; this.#at < this.#text.length; ) {
      const at = this.#text[this.#at++] as string;
      if (at === '"') return out;
      if (at === '$') out += this.#variable();
      else if (at === this.#escaper) {
        const next = this.#text[this.#at++] ?? '';
        out += next === '"' || next === '$' || next === this.#escaper ? next : at + next;
      } else out += at;
    }
    throw new UsageError(`a '"' is missing in ${JSON.stringify(this.#text)}`);
  }

  #variable(): string {
    const rest = this.#text.slice(this.#at);
    if (rest.startsWith('{')) return this.#braces();
    const name = NAME.exec(rest)?.[0];
    if (name === undefined) return '$';
    this.#at += name.length;
    return this.#value(name) ?? '';
  }

  #braces(): string {
    this.#at++;
    const name = NAME.exec(this.#text.slice(this.#at))?.[0];
    if (name === undefined) throw new UsageError(`not a variable in ${JSON.stringify(this.#text)}`);
    this.#at += name.length;
    const value = this.#value(name);
    const [, operator = ''] = /^(:?[-+?]|##?|%%?|\/\/?|)/.exec(this.#text.slice(this.#at)) ?? [];
    this.#at += operator.length;
    if (operator === '' && this.#text[this.#at] !== '}') {
      throw new UsageError(`not a modifier of a variable in ${JSON.stringify(this.#text)}`);
    }
    if (operator.startsWith('/')) {
      const pattern = this.read('/');
      this.#at++;
      const by = this.#close();
      return (value ?? '').replace(globPattern(pattern, '', operator === '//' ? 'gsu' : 'su'), () => by);
    }
    const word = this.#close();
    const set = value !== undefined && !(operator.startsWith(':') && value === '');
    switch (operator.replace(':', '')) {
      case '-':
        return set ? value : word;
      case '+':
        return set ? word : '';
      case '?':
        if (set) return value;
        throw new UsageError(`${name}: ${word || 'it has no value'}`);
      case '':
        return value ?? '';
      default:
        return strip(value ?? '', word, operator);
    }
  }

  #close(): string {
    const word = this.read('}');
    this.#at++;
    return word;
  }

  #value(name: string): string | undefined {
    return Object.hasOwn(this.#variables, name) ? this.#variables[name] : undefined;
  }
}

/** Names, and what a shell would have: there is no value for that here. */
const NAME = /^([a-zA-Z_][a-zA-Z0-9_]*|\d+|[@*#?!-])/;

function globPattern(pattern: string, around: '^' | '$' | '', flags: string, lazy = false): RegExp {
  const any = lazy ? '.*?' : '.*';
  const source = [...pattern]
    .map((at) => (at === '*' ? any : at === '?' ? '.' : at.replace(/[\\^$.|+()[\]{}/]/g, '\\$&')))
    .join('');
  return new RegExp(around === '^' ? `^(?:${source})` : around === '$' ? `(?:${source})$` : source, flags);
}

/** `#` and `##` take a beginning away, the shortest and the longest one; `%` and `%%` an end. */
function strip(value: string, pattern: string, operator: string): string {
  if (operator.startsWith('#')) return value.replace(globPattern(pattern, '^', 'su', operator === '#'), '');
  const whole = globPattern(pattern, '$', 'su');
  const starts = Array.from({ length: value.length + 1 }, (_, i) => i);
  if (operator === '%') starts.reverse();
  const at = starts.find((start) => {
    const found = whole.exec(value.slice(start));
    return found?.index === 0;
  });
  return at === undefined ? value : value.slice(0, at);
}
