import { readFileSync } from 'node:fs';
import { addressOf, invalid, type LaunchProgram, type Part, PR, type Slot, UnsupportedError } from '@iso/sys';
import { kernelName } from './action.js';
import { ownArchitecture } from './architecture.js';
import type { Filter } from './filter.js';
import { FLAG, SECCOMP } from './raw/seccomp.js';

/**
 * How a filter is installed:
 *
 * - `log`: actions other than `allow` are written to the audit log
 * - `spec-allow`: no mitigation against Speculative Store Bypass for its sake
 * - `tsync`: for all threads of the process; at its start it has one
 * - `wait-killable`: a call that a supervisor has taken is interrupted by fatal signals only
 */
export type InstallFlag = 'log' | 'spec-allow' | 'tsync' | 'wait-killable';

/** How a filter is installed. */
export interface InstallOptions {
  readonly flags?: readonly InstallFlag[];
  /**
   * Sets no_new_privs, without which the kernel takes filters from holders of CAP_SYS_ADMIN only: a program with set-user-id that
   * runs under a filter of others is easily led astray. The default is true.
   */
  readonly noNewPrivileges?: boolean;
}

const flagBits: Readonly<Record<InstallFlag, number>> = {
  log: FLAG.LOG,
  'spec-allow': FLAG.SPEC_ALLOW,
  tsync: FLAG.TSYNC,
  'wait-killable': FLAG.WAIT_KILLABLE_RECV,
};

/**
 * Confines a launch by a filter. It is installed last, right before the exec: which it must allow, execve (and openat2, or answer that
 * with ENOSYS, where the process has a root of its own).
 *
 * @param filter - what it may do
 * @param options - how it is installed
 * @returns a part for a launch
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for a filter of another architecture, or one that notifies: a {@link Supervisor} takes those
 *
 * @example
 * ```ts
 * import { Filter, seccomp } from '@iso/seccomp';
 * import { run } from '@iso/process';
 * const filter = new Filter({ default: 'allow', rules: [{ calls: ['mkdir', 'mkdirat'], action: { errno: 'EDQUOT' } }] });
 * const { code, stderr } = await run('mkdir', ['/tmp/x'], { confine: [seccomp(filter)], check: false });
 * if (code === 0 || !stderr.includes('quota')) throw new Error(stderr);
 * ```
 */
export function seccomp(filter: Filter, options: InstallOptions = {}): Part {
  const flags = judge(filter, options);
  if (filter.actions.includes('notify')) throw invalid('nobody would answer: the filter notifies, use a Supervisor');
  if (flags & FLAG.WAIT_KILLABLE_RECV) throw invalid('wait-killable is for a filter with a Supervisor');
  const bytes = filter.bytes();
  return {
    confine(program) {
      requireKernel(filter);
      install(program, bytes, flags, options);
    },
  };
}

/**
 * Judges what is to be installed.
 *
 * @returns the bits of the flags
 */
export function judge(filter: Filter, options: InstallOptions): number {
  const unknown = Object.keys(options).find((key) => key !== 'flags' && key !== 'noNewPrivileges');
  if (unknown !== undefined) throw invalid(`there is no option ${JSON.stringify(unknown)}`);
  let bits = 0;
  for (const flag of options.flags ?? []) {
    if (!Object.hasOwn(flagBits, flag))
      throw invalid(`no flag: ${JSON.stringify(flag)}, there are ${Object.keys(flagBits).join(', ')}`);
    bits |= flagBits[flag];
  }
  if (typeof filter?.bytes !== 'function') throw invalid('not a Filter');
  return bits;
}

/**
 * Adds the step that installs a filter.
 *
 * @param program - the launch
 * @param bytes - the instructions
 * @param flags - `SECCOMP_FILTER_FLAG_*`
 * @param options - whether privileges go
 * @returns slot of the result: a descriptor where a listener was asked for
 */
export function install(program: LaunchProgram, bytes: Buffer, flags: number, options: InstallOptions): Slot {
  if (program.ending !== 'process') throw invalid('a filter is for a process, not for an errand');
  if (options.noNewPrivileges ?? true)
    program.step('privileges', 'prctl', [PR.SET_NO_NEW_PRIVS, 1, 0, 0, 0], { text: 'prctl(PR_SET_NO_NEW_PRIVS)' });
  const fprog = Buffer.from(new ArrayBuffer(16));
  const count = bytes.length / 8;
  fprog.writeUInt16LE(count, 0);
  fprog.writeBigUInt64LE(addressOf(bytes), 8);
  // The child reads the instructions where they are: they stay until it has.
  program.defer(() => void bytes.length);
  return program.step('filter', 'seccomp', [SECCOMP.SET_MODE_FILTER, flags, fprog], {
    text: `seccomp(SECCOMP_SET_MODE_FILTER, ${flags}, <${count} instructions>)`,
    hint: {
      EACCES: 'without no_new_privs it needs CAP_SYS_ADMIN in the user namespace of the process',
      EINVAL: 'the kernel does not know a flag, or was built without filters',
      EBUSY: 'a process has one supervisor, and it has got one already',
      ENOMEM: 'the filters of the process have more than 32768 instructions together',
    },
  });
}

/**
 * Goes on only where the kernel is the filter's, and has its actions. One that it does not know would end the process.
 *
 * @param filter - what is to be installed
 * @throws `TypeError` for another architecture; UnsupportedError
 */
export function requireKernel(filter: Filter): void {
  if (filter.architecture !== ownArchitecture())
    throw invalid(`the filter is for ${filter.architecture}, this is ${ownArchitecture()}`);
  const names = available();
  const lacking = names && filter.actions.map(kernelName).find((name) => !names.has(name));
  if (lacking)
    throw new UnsupportedError(
      `SECCOMP_RET_${lacking.toUpperCase()}`,
      '/proc/sys/kernel/seccomp/actions_avail lacks it',
    );
}

/** The kernel's actions, the same for as long as it runs. */
let known: ReadonlySet<string> | undefined;

function available(): ReadonlySet<string> | undefined {
  try {
    known ??= new Set(readFileSync('/proc/sys/kernel/seccomp/actions_avail', 'utf8').trim().split(' '));
  } catch {
    // Not everywhere there is a /proc; before 4.14 it lacks this file.
  }
  return known;
}
