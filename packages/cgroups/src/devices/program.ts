import { type DeviceRule, exactRules } from './rule.js';

/** `linux/bpf.h` and `linux/bpf_common.h`. */
const OP = {
  LOAD_WORD: 0x61,
  MOVE_REGISTER: 0xbf,
  MOVE: 0xb7,
  AND: 0x57,
  SHIFT_RIGHT: 0x77,
  JUMP_IF_EQUAL: 0x15,
  JUMP_IF_NOT_EQUAL: 0x55,
  EXIT: 0x95,
} as const;

/** `BPF_DEVCG_DEV_*` and `BPF_DEVCG_ACC_*`. */
const TYPE = { b: 1, c: 2 } as const;
const ACCESS: Record<string, number> = { m: 1, r: 2, w: 4 };
const ALL = 7;

/** Registers: the kernel's context, the result, and what the program takes out of the context. */
const R = { result: 0, context: 1, type: 2, access: 3, major: 4, minor: 5, scratch: 6 } as const;

/** One instruction: operation, destination and source register, offset, immediate. */
type Instruction = readonly [op: number, destination: number, source: number, offset: number, immediate: number];

/**
 * The program that the kernel asks at each use of a device: it gets the type of the device, what is wanted and the numbers, and
 * returns 1 to allow it. Rules are looked at from the last on, and each decides on the letters of access that it names and
 * no later rule named; so an access of several letters needs every one allowed.
 *
 * @param rules - in order, the last that matches decides
 * @returns instructions of eight bytes
 */
export function deviceProgram(rules: readonly DeviceRule[]): Buffer {
  const { allow, rules: exact } = exactRules(rules);
  const program: Instruction[] = [
    [OP.LOAD_WORD, R.type, R.context, 0, 0],
    [OP.MOVE_REGISTER, R.access, R.type, 0, 0],
    [OP.AND, R.type, 0, 0, 0xffff],
    [OP.SHIFT_RIGHT, R.access, 0, 0, 16],
    [OP.LOAD_WORD, R.major, R.context, 4, 0],
    [OP.LOAD_WORD, R.minor, R.context, 8, 0],
  ];
  for (const { allow, type, major, minor, access } of exact.reverse()) {
    const mask = [...access].reduce((sum, letter) => sum | (ACCESS[letter] as number), 0);
    const verdict = allow ? granted(mask) : denied(mask);
    const tests: [register: number, value: number][] = [];
    if (type !== 'a') tests.push([R.type, TYPE[type]]);
    if (major !== undefined) tests.push([R.major, major]);
    if (minor !== undefined) tests.push([R.minor, minor]);
    for (const [i, [register, value]] of tests.entries()) {
      const rest = tests.length - i - 1 + verdict.length;
      program.push([OP.JUMP_IF_NOT_EQUAL, register, 0, rest, value]);
    }
    program.push(...verdict);
  }
  program.push([OP.MOVE, R.result, 0, 0, allow ? 1 : 0], [OP.EXIT, 0, 0, 0, 0]);
  return encode(program);
}

/** Takes off what is allowed; when nothing is left to be asked for, that is the answer. */
function granted(mask: number): Instruction[] {
  const yes: Instruction[] = [
    [OP.MOVE, R.result, 0, 0, 1],
    [OP.EXIT, 0, 0, 0, 0],
  ];
  if (mask === ALL) return yes;
  return [[OP.AND, R.access, 0, 0, ALL & ~mask], [OP.JUMP_IF_NOT_EQUAL, R.access, 0, yes.length, 0], ...yes];
}

/** One letter that is denied denies all. */
function denied(mask: number): Instruction[] {
  const no: Instruction[] = [
    [OP.MOVE, R.result, 0, 0, 0],
    [OP.EXIT, 0, 0, 0, 0],
  ];
  if (mask === ALL) return no;
  return [
    [OP.MOVE_REGISTER, R.scratch, R.access, 0, 0],
    [OP.AND, R.scratch, 0, 0, mask],
    [OP.JUMP_IF_EQUAL, R.scratch, 0, no.length, 0],
    ...no,
  ];
}

function encode(program: readonly Instruction[]): Buffer {
  const bytes = Buffer.alloc(program.length * 8);
  for (const [i, [op, destination, source, offset, immediate]] of program.entries()) {
    bytes.writeUInt8(op, i * 8);
    bytes.writeUInt8(destination | (source << 4), i * 8 + 1);
    bytes.writeInt16LE(offset, i * 8 + 2);
    bytes.writeInt32LE(immediate, i * 8 + 4);
  }
  return bytes;
}
