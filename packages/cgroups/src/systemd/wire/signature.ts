import { malformed } from './malformed.js';

/** A complete type of D-Bus: a letter, with what it is made of. */
export interface Type {
  /** `a` array, `(` structure, `{` entry of a dictionary, `v` variant, or a basic type. */
  code: string;
  of: readonly Type[];
}

/** Bytes that each type is aligned to; its keys are all types that there are. */
const alignments: Record<string, number> = {
  ...{ y: 1, g: 1, v: 1, n: 2, q: 2 },
  ...{ b: 4, i: 4, u: 4, h: 4, s: 4, o: 4, a: 4 },
  ...{ x: 8, t: 8, d: 8, '(': 8, '{': 8 },
};

/** Bytes that a value of a type begins at a multiple of. */
export function alignmentOf({ code }: Type): number {
  return alignments[code] as number;
}

const LONGEST = 255;
const DEEPEST = 32;

/**
 * The types that a signature names, one after the other.
 *
 * @param signature - for example `sa(sv)`
 * @throws CgroupError `EPROTO` for one that the specification does not allow
 */
export function parseSignature(signature: string): readonly Type[] {
  if (signature.length > LONGEST) throw malformed(`a signature of ${signature.length} letters`);
  const parser = new Parser(signature);
  const types: Type[] = [];
  while (!parser.ended) types.push(parser.type(0, 0));
  return types;
}

class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get ended(): boolean {
    return this.#at === this.#text.length;
  }

  type(arrays: number, structures: number): Type {
    const code = this.#text[this.#at++] ?? '';
    if (code === 'a') {
      if (arrays === DEEPEST) throw this.#wrong('arrays are nested too deep');
      if (this.#text[this.#at] === '{') return { code, of: [this.#entry(arrays + 1, structures)] };
      return { code, of: [this.type(arrays + 1, structures)] };
    }
    if (code === '(') {
      const of = this.#until(')', arrays, structures);
      if (of.length === 0) throw this.#wrong('a structure of nothing');
      return { code, of };
    }
    if (code === '{' || !Object.hasOwn(alignments, code)) throw this.#wrong('no such type');
    return { code, of: [] };
  }

  #entry(arrays: number, structures: number): Type {
    this.#at++;
    const of = this.#until('}', arrays, structures);
    const [key] = of;
    if (of.length !== 2 || !key || key.of.length > 0 || key.code === 'v') throw this.#wrong('no entry of a dictionary');
    return { code: '{', of };
  }

  #until(end: string, arrays: number, structures: number): Type[] {
    if (structures === DEEPEST) throw this.#wrong('structures are nested too deep');
    const of: Type[] = [];
    while (this.#text[this.#at] !== end) of.push(this.type(arrays, structures + 1));
    this.#at++;
    return of;
  }

  #wrong(what: string) {
    return malformed(`${what} at ${this.#at} of the signature ${JSON.stringify(this.#text)}`);
  }
}
