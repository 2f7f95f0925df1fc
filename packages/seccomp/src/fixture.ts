import type { Action } from './action.js';
import type { Comparison } from './comparison.js';
import type { Instruction } from './compile.js';
import type { FilterOptions } from './filter.js';
import { BPF } from './raw/seccomp.js';

/** For tests: runs a program as the kernel would, and refuses what its verifier would refuse. */
export function interpret(
  instructions: readonly Instruction[],
  number: number,
  arch: number,
  args: readonly bigint[],
): number {
  const data = Buffer.alloc(64);
  data.writeUInt32LE(number >>> 0, 0);
  data.writeUInt32LE(arch, 4);
  for (const [i, arg] of args.entries()) data.writeBigUInt64LE(arg, 16 + 8 * i);
  let [pc, word, steps] = [0, 0, 0];
  for (;;) {
    const { code, jt, jf, k } = at(instructions, pc);
    steps++;
    pc++;
    if (code === BPF.LD) word = data.readUInt32LE(k);
    else if (code === BPF.AND) word = (word & k) >>> 0;
    else if (code === BPF.JA) pc += k;
    else if (code === BPF.JEQ) pc += word === k ? jt : jf;
    else if (code === BPF.JGT) pc += word > k ? jt : jf;
    else if (code === BPF.JGE) pc += word >= k ? jt : jf;
    else if (code === BPF.RET) return k;
    else throw new Error(`no opcode: ${code}`);
    if (steps > instructions.length) throw new Error('it runs in a circle');
  }
}

/** Reads an array of struct sock_filter. */
export function disassemble(bytes: Buffer): Instruction[] {
  return Array.from({ length: bytes.length / 8 }, (_, i) => ({
    code: bytes.readUInt16LE(8 * i),
    jt: bytes.readUInt8(8 * i + 2),
    jf: bytes.readUInt8(8 * i + 3),
    k: bytes.readUInt32LE(8 * i + 4),
  }));
}

function at(instructions: readonly Instruction[], pc: number): Instruction {
  const instruction = instructions[pc];
  if (!instruction) throw new Error(`there is no instruction ${pc}`);
  return instruction;
}

/** Small numbers that look random and are the same each time. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = (seed * 2654435761 + 1) >>> 0;
  }

  /** From 0 up to below `sides`. */
  roll(sides: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    this.#state >>>= 0;
    return this.#state % sides;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.roll(from.length)] as T;
  }

  /** 64 bits, mostly such as lie close to a limit, or to what was drawn before. */
  word(near: readonly bigint[] = []): bigint {
    const base = this.pick([...edges, ...near]);
    const random = (BigInt(this.roll(2 ** 32)) << 32n) | BigInt(this.roll(2 ** 32));
    return BigInt.asUintN(64, this.roll(3) === 0 ? random : base + BigInt(this.roll(3) - 1));
  }
}

const edges = [0n, 1n, 2n ** 31n, 2n ** 32n, 2n ** 32n + 1n, 2n ** 63n, 2n ** 64n - 1n];
const operators = ['==', '!=', '<', '<=', '>', '>=', 'masked'] as const;

/** A filter of any shape, and numbers that its conditions compare with. */
export function anyFilter(
  dice: Dice,
  calls: readonly string[],
  actions: readonly Action[],
): { options: FilterOptions; words: bigint[] } {
  const words: bigint[] = [];
  const comparison = (): Comparison => {
    const op = dice.pick(operators);
    const mask = dice.word();
    const value = op === 'masked' ? dice.word() & mask : dice.word();
    words.push(value);
    return { arg: dice.roll(6), op, value, ...(op === 'masked' ? { mask } : {}) };
  };
  const rules = Array.from({ length: dice.roll(12) }, () => ({
    calls: Array.from({ length: 1 + dice.roll(dice.roll(4) === 0 ? 60 : 3) }, () => dice.pick(calls)),
    action: dice.pick(actions),
    args: Array.from({ length: dice.roll(4) }, comparison),
  }));
  return { options: { default: dice.pick(actions), rules, unknown: dice.pick(actions) }, words };
}
