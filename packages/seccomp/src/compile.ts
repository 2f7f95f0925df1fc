import type { Architecture } from './architecture.js';
import type { Condition } from './comparison.js';
import { type Decision, keyOf, type Range } from './decision.js';
import { AUDIT_ARCH, BPF, DATA, NO_CALL, X32_BIT } from './raw/seccomp.js';

/** An instruction of classic BPF. */
export interface Instruction {
  readonly code: number;
  /** How many to skip where a comparison holds, and where not. */
  readonly jt: number;
  readonly jf: number;
  readonly k: number;
}

/** What a filter is compiled from. */
export interface Source {
  readonly architecture: Architecture;
  /** From 0 on, without gaps. */
  readonly ranges: readonly Range[];
  /** What calls of another ABI get. */
  readonly foreign: number;
}

/**
 * Compiles decisions: the architecture is compared first, then a binary search finds the range of the number, then conditions are
 * tried one after the other.
 *
 * @param source - the decisions
 * @returns the instructions, as many as it takes
 */
export function compile({ architecture, ranges, foreign }: Source): Instruction[] {
  const code = new Code();
  const leaves = new Map<string, Target>();
  const leaf = (decision: Decision): Target => {
    const key = keyOf(decision);
    let target = leaves.get(key);
    if (target === undefined) {
      target = decide(code, decision);
      leaves.set(key, target);
    }
    return target;
  };
  const search = (first: number, last: number): Target => {
    if (first === last) return leaf((ranges[first] as Range).decision);
    const middle = (first + last + 1) >> 1;
    const right = search(middle, last);
    const left = search(first, middle - 1);
    return code.jump(BPF.JGE, (ranges[middle] as Range).from, right, left);
  };
  let at = search(0, ranges.length - 1);
  if (architecture === 'x64') at = code.jump(BPF.JGE, X32_BIT, code.jump(BPF.JEQ, NO_CALL, at, { ret: foreign }), at);
  at = code.load(DATA.nr, at);
  at = code.jump(BPF.JEQ, AUDIT_ARCH[architecture], at, { ret: foreign });
  code.load(DATA.arch, at);
  return code.instructions();
}

/** Where code goes on: at an instruction, counted from the end, or at its end with a result. */
type Target = number | { readonly ret: number };

function decide(code: Code, { rules, otherwise }: Decision): Target {
  let next: Target = { ret: otherwise };
  for (const { conditions, action } of [...rules].reverse()) {
    let met: Target = { ret: action };
    for (const condition of [...conditions].reverse()) met = compare(code, condition, met, next);
    next = met;
  }
  return next;
}

/** Two halves, the upper one first: the machine of classic BPF has 32 bits. */
function compare(code: Code, { arg, op, value, mask }: Condition, yes: Target, no: Target): Target {
  const [high, low] = [Number(value >> 32n), Number(value & 0xffffffffn)];
  const at = DATA.args + 8 * arg;
  switch (op) {
    case '==':
      return code.load(at + 4, code.jump(BPF.JEQ, high, code.load(at, code.jump(BPF.JEQ, low, yes, no)), no));
    case '!=':
      return compare(code, { arg, op: '==', value, mask }, no, yes);
    case '>':
    case '>=': {
      const rest = code.load(at, code.jump(op === '>' ? BPF.JGT : BPF.JGE, low, yes, no));
      return code.load(at + 4, code.jump(BPF.JGT, high, yes, code.jump(BPF.JEQ, high, rest, no)));
    }
    case '<':
      return compare(code, { arg, op: '>=', value, mask }, no, yes);
    case '<=':
      return compare(code, { arg, op: '>', value, mask }, no, yes);
    case 'masked': {
      const [upper, lower] = [Number(mask >> 32n), Number(mask & 0xffffffffn)];
      let next = yes;
      if (lower !== 0) next = code.load(at, code.and(lower, code.jump(BPF.JEQ, low, next, no)));
      if (upper !== 0) next = code.load(at + 4, code.and(upper, code.jump(BPF.JEQ, high, next, no)));
      return next;
    }
  }
}

/** How far a comparison jumps: eight bits, and room for the jumps and results that are put between. */
const FAR = 255 - 4;

/** Code that is written from its end, because jumps lead forward only: where they lead to is there already. */
class Code {
  readonly #reversed: Instruction[] = [];
  /** Where the last return of each result is. */
  readonly #returns = new Map<number, number>();

  /** Loads a word and goes on. */
  load(offset: number, next: Target): number {
    return this.#then({ code: BPF.LD, jt: 0, jf: 0, k: offset }, next);
  }

  /** Masks the word and goes on. */
  and(mask: number, next: Target): number {
    return this.#then({ code: BPF.AND, jt: 0, jf: 0, k: mask }, next);
  }

  /** Compares the word. */
  jump(code: number, k: number, yes: Target, no: Target): number {
    const [then, otherwise] = [this.#near(yes), this.#near(no)];
    const at = this.#reversed.length;
    return this.#push({ code, jt: at - then - 1, jf: at - otherwise - 1, k });
  }

  instructions(): Instruction[] {
    return this.#reversed.toReversed();
  }

  #then(instruction: Instruction, next: Target): number {
    const at = typeof next === 'number' ? next : this.#near(next);
    if (at !== this.#reversed.length - 1) this.#push({ code: BPF.JA, jt: 0, jf: 0, k: this.#reversed.length - at - 1 });
    return this.#push(instruction);
  }

  /** A place that a comparison reaches: of a result that is too far away there is another one, elsewhere a long jump leads. */
  #near(target: Target): number {
    const there = typeof target === 'number' ? target : this.#returns.get(target.ret);
    const distance = there === undefined ? Number.POSITIVE_INFINITY : this.#reversed.length - there;
    if (there !== undefined && distance <= FAR) return there;
    if (typeof target === 'number') return this.#push({ code: BPF.JA, jt: 0, jf: 0, k: distance - 1 });
    const at = this.#push({ code: BPF.RET, jt: 0, jf: 0, k: target.ret });
    this.#returns.set(target.ret, at);
    return at;
  }

  #push(instruction: Instruction): number {
    return this.#reversed.push(instruction) - 1;
  }
}

/**
 * Instructions as the kernel reads them: an array of struct sock_filter.
 *
 * @param instructions - the program
 * @returns 8 bytes each
 */
export function assemble(instructions: readonly Instruction[]): Buffer {
  // A buffer of its own: the kernel gets its address.
  const bytes = Buffer.from(new ArrayBuffer(8 * instructions.length));
  for (const [i, { code, jt, jf, k }] of instructions.entries()) {
    bytes.writeUInt16LE(code, 8 * i);
    bytes.writeUInt8(jt, 8 * i + 2);
    bytes.writeUInt8(jf, 8 * i + 3);
    bytes.writeUInt32LE(k >>> 0, 8 * i + 4);
  }
  return bytes;
}
