import { invalid, syscallNumbers } from '@iso/sys';
import { type Action, decode, encode, isPermissive } from './action.js';
import { type Architecture, numberOf, ownArchitecture } from './architecture.js';
import { type Comparison, condition, meets, register } from './comparison.js';
import { assemble, compile, type Instruction } from './compile.js';
import { type Decision, ranges, simplify } from './decision.js';
import { SeccompError } from './error.js';
import { AUDIT_ARCH, MAX_INSTRUCTIONS, NO_CALL, X32_BIT } from './raw/seccomp.js';

/** What is done with some system calls. */
export interface Rule {
  /** The kernel's names, for example `'openat'`; those that the architecture lacks cannot be made and are passed over. */
  readonly calls: readonly string[];
  readonly action: Action;
  /** Conditions on the arguments, all of which must be met; none: the rule always matches. */
  readonly args?: readonly Comparison[];
}

/** What a {@link Filter} decides. */
export interface FilterOptions {
  /** Of calls for which no rule matches. */
  readonly default: Action;
  /** Of each call the first rule that matches decides. */
  readonly rules?: readonly Rule[];
  /** Default is the one that runs. */
  readonly architecture?: Architecture;
  /**
   * Of numbers that the table lacks: of system calls that are newer than it. The default is `ENOSYS`, which programs understand as
   * an older kernel's answer, or the `default` where that lets calls through.
   */
  readonly unknown?: Action;
  /** Of calls by another ABI than the architecture's own (i386 and x32 on x64, 32 bits on arm64); default `kill-process`. */
  readonly foreign?: Action;
}

const known: ReadonlySet<string> = new Set(['default', 'rules', 'architecture', 'unknown', 'foreign']);
const knownOfRule: ReadonlySet<string> = new Set(['calls', 'action', 'args']);

/** A rule that is compiled before all others: how the listener leaves the child. */
export interface Passage {
  readonly call: string;
  readonly args: readonly Comparison[];
}

/**
 * A system call filter: it decides by the number and the arguments of a call. Immutable; compiling it needs no Linux.
 *
 * @example
 * ```ts
 * import { Filter } from '@iso/seccomp';
 * const filter = new Filter({
 *   default: 'allow',
 *   rules: [
 *     { calls: ['socket'], action: 'allow', args: [{ arg: 0, op: '==', value: 1 }] },
 *     { calls: ['socket', 'io_uring_setup'], action: { errno: 'EPERM' } },
 *   ],
 *   architecture: 'x64',
 * });
 * if (filter.evaluate('socket', [1]) !== 'allow') throw new Error('no AF_UNIX');
 * if (filter.evaluate('socket', [2]) === 'allow') throw new Error('AF_INET');
 * ```
 */
export class Filter {
  /** Which calls it knows. */
  readonly architecture: Architecture;
  readonly #options: Required<FilterOptions>;
  readonly #unknown: number;
  readonly #foreign: number;
  /** By number: each call of the table. */
  readonly #decisions: ReadonlyMap<number, Decision>;
  readonly #instructions: readonly Instruction[];

  /**
   * @param options - what it decides
   * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for a system call, an action or a comparison that there is not
   * @throws {@link SeccompError} `too-large` where it takes more than the kernel's 4096 instructions
   */
  constructor(options: FilterOptions) {
    refuseUnknown('a filter', options, known);
    this.architecture = options.architecture ?? ownArchitecture();
    if (!Object.hasOwn(AUDIT_ARCH, this.architecture))
      throw invalid(`no architecture: ${String(this.architecture)}, there are ${Object.keys(AUDIT_ARCH).join(', ')}`);
    const fallback = encode(options.default);
    const unknown = options.unknown ?? (isPermissive(options.default) ? options.default : { errno: 'ENOSYS' });
    const { rules = [], foreign = 'kill-process' } = options;
    this.#options = { default: options.default, rules, architecture: this.architecture, unknown, foreign };
    this.#unknown = encode(unknown);
    this.#foreign = encode(foreign);
    this.#decisions = decide(rules, this.architecture, fallback);
    this.#instructions = this.#compile(this.#decisions);
  }

  /** How many instructions it has; the kernel runs them for each call but those that are always allowed. */
  get instructions(): number {
    return this.#instructions.length;
  }

  /** Every action that it may end in. */
  get actions(): Action[] {
    const values = new Set([this.#unknown, this.#foreign]);
    for (const { rules, otherwise } of this.#decisions.values()) {
      values.add(otherwise);
      for (const { action } of rules) values.add(action);
    }
    return [...values].map(decode);
  }

  /**
   * What it decides of a call, without a kernel: for tests of one's own filters.
   *
   * @param call - name or number
   * @param args - its arguments, 0 where they are missing
   * @param options - `foreign`: the call is made by another ABI
   * @returns the action
   * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for a name that its architecture does not have
   */
  evaluate(
    call: string | number,
    args: readonly (number | bigint)[] = [],
    options: { foreign?: boolean } = {},
  ): Action {
    const number = typeof call === 'number' ? call : numberOf(call, this.architecture);
    if (number === undefined) throw invalid(`${this.architecture} has no system call ${call}`);
    if (!Number.isInteger(number) || number < 0 || number > 0xffffffff)
      throw invalid(`not the number of a system call: ${String(call)}`);
    if (args.length > 6) throw invalid('a system call has six arguments at the most');
    const words = args.map(register);
    const x32 = this.architecture === 'x64' && number >= X32_BIT && number !== NO_CALL;
    if (options.foreign || x32) return decode(this.#foreign);
    const decision = this.#decisions.get(number);
    if (!decision) return decode(this.#unknown);
    const rule = decision.rules.find(({ conditions }) => conditions.every((it) => meets(it, words[it.arg] ?? 0n)));
    return decode(rule ? rule.action : decision.otherwise);
  }

  /**
   * Whether any arguments of a call may lead to an action.
   *
   * @param call - its name
   * @param action - the action
   * @returns false also where the architecture has no such call
   */
  reaches(call: string, action: Action): boolean {
    const number = numberOf(call, this.architecture);
    const decision = number === undefined ? undefined : this.#decisions.get(number);
    const value = encode(action);
    return decision?.otherwise === value || (decision?.rules.some((rule) => rule.action === value) ?? false);
  }

  /**
   * The same filter with other actions: to be told what it would do (`log`, `notify`), for example.
   *
   * @param change - gets each action, returns what stands in its place
   * @returns another filter
   */
  map(change: (action: Action) => Action): Filter {
    const { default: fallback, rules, architecture, unknown, foreign } = this.#options;
    return new Filter({
      default: change(fallback),
      rules: rules.map((rule) => ({ ...rule, action: change(rule.action) })),
      architecture,
      unknown: change(unknown),
      foreign: change(foreign),
    });
  }

  /**
   * The program as the kernel takes it: an array of struct sock_filter.
   *
   * @returns 8 bytes for each instruction
   */
  bytes(): Buffer {
    return assemble(this.#instructions);
  }

  /**
   * The program, with a rule before all others.
   *
   * @internal
   */
  bytesWith({ call, args }: Passage): Buffer {
    const number = numberOf(call, this.architecture) as number;
    const decision = this.#decisions.get(number) as Decision;
    const passage = { conditions: args.map(condition), action: encode('allow') };
    const decisions = new Map(this.#decisions);
    decisions.set(number, { ...decision, rules: [passage, ...decision.rules] });
    return assemble(this.#compile(decisions));
  }

  #compile(decisions: ReadonlyMap<number, Decision>): Instruction[] {
    const gap = { rules: [], otherwise: this.#unknown };
    const { architecture } = this;
    const instructions = compile({ architecture, ranges: ranges(decisions, gap), foreign: this.#foreign });
    if (instructions.length > MAX_INSTRUCTIONS)
      throw new SeccompError(
        'too-large',
        `the filter has ${instructions.length} instructions, the kernel takes ${MAX_INSTRUCTIONS}: compare fewer arguments`,
      );
    return instructions;
  }
}

function decide(rules: readonly Rule[], architecture: Architecture, fallback: number): Map<number, Decision> {
  if (!Array.isArray(rules)) throw invalid('rules must be an array');
  const found = new Map<number, Decision['rules'][number][]>();
  for (const number of syscallNumbers[architecture].values()) found.set(number, []);
  for (const rule of rules) {
    refuseUnknown('a rule', rule, knownOfRule);
    const { calls, action, args = [] } = rule;
    if (!Array.isArray(calls) || calls.length === 0) throw invalid('calls must be an array of names, and not empty');
    const decided = { conditions: args.map(condition), action: encode(action) };
    for (const name of calls) {
      const number = numberOf(name, architecture);
      if (number !== undefined) found.get(number)?.push(decided);
    }
  }
  return new Map([...found].map(([number, decided]) => [number, simplify(decided, fallback)]));
}

function refuseUnknown(what: string, options: object, names: ReadonlySet<string>): void {
  if (typeof options !== 'object' || options === null) throw invalid(`${what} must be an object`);
  const unknown = Object.keys(options).find((key) => !names.has(key));
  if (unknown !== undefined)
    throw invalid(`${what} has no ${JSON.stringify(unknown)}, there are ${[...names].join(', ')}`);
}
