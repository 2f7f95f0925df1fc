import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { errnoNumber } from '@iso/sys';
import type { Action } from './action.js';
import { type Architecture, isKnown, ownArchitecture } from './architecture.js';
import type { Comparison, Operator } from './comparison.js';
import { SeccompError } from './error.js';
import { Filter, type Rule } from './filter.js';
import type { InstallFlag } from './part.js';
import { check, field, type ProfileCondition, type ProfileData, type ProfileSyscall } from './schema.js';

/** What rules of a profile depend on. */
export interface ProfileContext {
  /** The capabilities in the process's bounding set, `CAP_NET_RAW` or `NET_RAW`; default is none. */
  readonly capabilities?: readonly string[];
  /** Default is the one that runs. */
  readonly architecture?: Architecture;
  /** Release of the kernel, for example `'6.12'`; default is the one that runs. */
  readonly kernel?: string;
}

/**
 * A profile in Docker's JSON format, which is also the one of podman, containerd and of the OCI runtime specification: what it
 * decides depends on capabilities, architecture and kernel.
 *
 * Where several rules name a call, one without conditions decides; else the first whose conditions are met. Names that no
 * table has are passed over, as by libseccomp: {@link Profile.ignored}. Sub-architectures of the profile (i386 and x32 on
 * x64, arm on arm64) are not let in: their calls kill the process.
 *
 * @example
 * ```ts
 * import { Profile } from '@iso/seccomp';
 * const profile = Profile.parse({
 *   defaultAction: 'SCMP_ACT_ERRNO',
 *   syscalls: [
 *     { names: ['read', 'write', 'exit_group'], action: 'SCMP_ACT_ALLOW' },
 *     { names: ['chroot'], action: 'SCMP_ACT_ALLOW', includes: { caps: ['CAP_SYS_CHROOT'] } },
 *   ],
 * });
 * if (profile.filter().evaluate('chroot') === 'allow') throw new Error('without the capability');
 * if (profile.filter({ capabilities: ['SYS_CHROOT'] }).evaluate('chroot') !== 'allow') throw new Error('with it');
 * ```
 */
export class Profile {
  /** Flags that it wants to be installed with. */
  readonly flags: readonly InstallFlag[];
  /** Names of system calls that are unknown here, and cannot be made by number either: those get `ENOSYS`. */
  readonly ignored: readonly string[];
  readonly #data: ProfileData;

  private constructor(data: ProfileData) {
    this.#data = data;
    this.flags = (data.flags ?? []).map((flag) => flags[flag] as InstallFlag);
    this.ignored = [...new Set(data.syscalls.flatMap(namesOf))].filter((name) => !isKnown(name)).sort();
  }

  /**
   * Reads a profile.
   *
   * @param source - JSON text, or what JSON.parse made of it
   * @returns the profile
   * @throws {@link SeccompError} `profile` for what is no JSON, and for whatever is not known or makes no sense in it
   */
  static parse(source: string | object): Profile {
    let value: unknown = source;
    if (typeof source === 'string') {
      try {
        value = JSON.parse(source);
      } catch (error) {
        throw new SeccompError('profile', `the profile is no JSON: ${(error as Error).message}`, error);
      }
    }
    const data = check(value);
    for (const flag of data.flags ?? []) field(Object.hasOwn(flags, flag), `no flag: ${flag}`);
    const profile = new Profile(data);
    // Rules for capabilities that nobody has yet are judged now too.
    actionOf(data.defaultAction, data.defaultErrnoRet, data.defaultErrno, 'defaultAction');
    for (const rule of data.syscalls) ruleOf(rule, namesOf(rule), rule.args ?? []);
    return profile;
  }

  /**
   * Reads a profile from a file.
   *
   * @param path - of the JSON
   * @returns the profile
   * @throws {@link SeccompError} as {@link Profile.parse}; Node's own error where the file cannot be read
   */
  static read(path: string): Profile {
    return Profile.parse(readFileSync(path, 'utf8'));
  }

  /** The document that it was made of, for JSON.stringify: {@link Profile.parse} takes it again. */
  toJSON(): object {
    return this.#data;
  }

  /**
   * The filter for a process.
   *
   * @param context - what it depends on
   * @returns the filter, compiled
   * @throws {@link SeccompError} `too-large`
   */
  filter(context: ProfileContext = {}): Filter {
    const { capabilities = [], architecture = ownArchitecture(), kernel = release() } = context;
    const held = new Set(capabilities.map((name) => name.toUpperCase().replace(/^(?!CAP_)/, 'CAP_')));
    const applies = ({ includes = {}, excludes = {} }: ProfileSyscall) =>
      !(
        excludes.arches?.includes(goNames[architecture]) ||
        excludes.caps?.some((name) => held.has(name)) ||
        (excludes.minKernel && atLeast(kernel, excludes.minKernel))
      ) &&
      (!includes.arches?.length || includes.arches.includes(goNames[architecture])) &&
      (includes.caps ?? []).every((name) => held.has(name)) &&
      (!includes.minKernel || atLeast(kernel, includes.minKernel));
    const rules: Rule[] = [];
    for (const rule of this.#data.syscalls.filter(applies)) {
      const calls = namesOf(rule).filter(isKnown);
      if (calls.length === 0) continue;
      const conditions = rule.args ?? [];
      // Conditions on the same argument are alternatives, as in runc.
      const alternatives = new Set(conditions.map(({ index }) => index)).size < conditions.length;
      for (const args of alternatives ? conditions.map((it) => [it]) : [conditions])
        rules.push(ruleOf(rule, calls, args));
    }
    const { defaultAction, defaultErrnoRet, defaultErrno } = this.#data;
    return new Filter({
      default: actionOf(defaultAction, defaultErrnoRet, defaultErrno, 'defaultAction'),
      // What always matches comes first.
      rules: [...rules.filter(({ args }) => !args?.length), ...rules.filter(({ args }) => args?.length)],
      architecture,
    });
  }
}

const goNames: Readonly<Record<Architecture, string>> = { x64: 'amd64', arm64: 'arm64' };

const flags: Readonly<Record<string, InstallFlag>> = {
  SECCOMP_FILTER_FLAG_TSYNC: 'tsync',
  SECCOMP_FILTER_FLAG_LOG: 'log',
  SECCOMP_FILTER_FLAG_SPEC_ALLOW: 'spec-allow',
  SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: 'wait-killable',
};

const operators: Readonly<Record<string, Operator>> = {
  SCMP_CMP_EQ: '==',
  SCMP_CMP_NE: '!=',
  SCMP_CMP_LT: '<',
  SCMP_CMP_LE: '<=',
  SCMP_CMP_GT: '>',
  SCMP_CMP_GE: '>=',
  SCMP_CMP_MASKED_EQ: 'masked',
};

const actions: Readonly<Record<string, Action>> = {
  SCMP_ACT_ALLOW: 'allow',
  SCMP_ACT_LOG: 'log',
  SCMP_ACT_KILL: 'kill-thread',
  SCMP_ACT_KILL_THREAD: 'kill-thread',
  SCMP_ACT_KILL_PROCESS: 'kill-process',
  SCMP_ACT_TRAP: 'trap',
  SCMP_ACT_NOTIFY: 'notify',
};

const EPERM = 1;

function namesOf({ names, name }: ProfileSyscall): readonly string[] {
  return name !== undefined ? [name] : (names ?? []);
}

function actionOf(name: string, number: number | undefined, errno: string | undefined, where: string): Action {
  const action = actions[name];
  if (Object.hasOwn(actions, name) && action) return action;
  field(name === 'SCMP_ACT_ERRNO' || name === 'SCMP_ACT_TRACE', `${where}: no action: ${name}`);
  if (number === undefined && errno !== undefined) {
    try {
      number = errnoNumber(errno);
    } catch {
      field(false, `${where}: no errno is called ${errno}`);
    }
  }
  const data = number ?? EPERM;
  if (name === 'SCMP_ACT_TRACE') {
    field(data >= 0 && data <= 0xffff, `${where}: errnoRet of a trace is from 0 to 65535`);
    return { trace: data };
  }
  // 0 makes the call succeed without being made: no name for that.
  field(data >= 1 && data <= 4095, `${where}: errnoRet is from 1 to 4095`);
  return { errno: data };
}

function ruleOf(rule: ProfileSyscall, names: readonly string[], args: readonly ProfileCondition[]): Rule {
  const where = `the rule for ${names.slice(0, 3).join(', ')}${names.length > 3 ? ', …' : ''}`;
  return {
    calls: names,
    action: actionOf(rule.action, rule.errnoRet, rule.errno, where),
    args: args.map((condition) => comparisonOf(condition, where)),
  };
}

function comparisonOf({ index, value, valueTwo = 0, op }: ProfileCondition, where: string): Comparison {
  const operator = operators[op];
  field(Object.hasOwn(operators, op) && operator !== undefined, `${where}: no operator: ${op}`);
  if (operator !== 'masked') return { arg: index, op: operator as Operator, value };
  // Bits outside of the mask are of no account to libseccomp.
  const mask = BigInt(value);
  return { arg: index, op: 'masked', mask, value: BigInt(valueTwo) & mask };
}

/** Compares the first two numbers of a release, as Docker does. */
function atLeast(release: string, least: string): boolean {
  const [a = 0, b = 0] = numbers(release);
  const [c = 0, d = 0] = numbers(least);
  return a > c || (a === c && b >= d);
}

function numbers(release: string): number[] {
  return (/^\d+\.\d+/.exec(release)?.[0] ?? '').split('.').map(Number);
}
