import { AT, attempt, Fd, invalid, KernelError, type LaunchProgram, O } from '@iso/sys';
import { dieWithParent } from './parent.js';
import { signalNumber } from './signal.js';

/** Resource limits by the names of getrlimit(2), lower case without `RLIMIT_`. */
const resources = {
  cpu: 0,
  fsize: 1,
  data: 2,
  stack: 3,
  core: 4,
  rss: 5,
  nproc: 6,
  nofile: 7,
  memlock: 8,
  as: 9,
  locks: 10,
  sigpending: 11,
  msgqueue: 12,
  nice: 13,
  rtprio: 14,
  rttime: 15,
} as const;

/** Name of a resource limit. */
export type ResourceName = keyof typeof resources;

/** A resource limit: one number for both, or soft and hard apart. */
export type ResourceLimit = number | 'unlimited' | { soft: number | 'unlimited'; hard: number | 'unlimited' };

/** What a process can be given beside its program, descriptors and confinement. */
export interface Attributes {
  /** User id, real, effective and saved. Needs CAP_SETUID for any but the caller's own. */
  uid?: number;
  /** Group id, real, effective and saved. Needs CAP_SETGID for any but the caller's own. */
  gid?: number;
  /** Supplementary groups. Where only `uid` or `gid` is given: none, as far as the kernel allows. */
  groups?: readonly number[];
  /** File mode creation mask. */
  umask?: number;
  /** Resource limits, see getrlimit(2); raising a hard limit needs CAP_SYS_RESOURCE. */
  rlimits?: Partial<Record<ResourceName, ResourceLimit>>;
  /** Nice value, -20 to 19; lowering needs CAP_SYS_NICE. */
  nice?: number;
  /** Processors that it may run on, by number. */
  affinity?: readonly number[];
  /** -1000 to 1000, see proc(5); lowering needs CAP_SYS_RESOURCE. */
  oomScoreAdj?: number;
  /**
   * A session of its own, see setsid(2). The default is true where it gets a terminal: one of its own, or, confined or as another
   * user, the caller's, into which it could type commands otherwise (TIOCSTI).
   */
  session?: boolean;
  /** Number of the child's descriptor whose terminal becomes the controlling one of its session; default is its `pty`. */
  controllingTerminal?: number;
  /**
   * Signal that it gets when the thread that started it ends, see PR_SET_PDEATHSIG: with this process, and already with the
   * worker thread where one started it. A new pid namespace passes SIGKILL of its first process on to all others.
   */
  parentDeathSignal?: NodeJS.Signals | number;
}

/**
 * Adds the steps that attributes need.
 *
 * @param program - the launch
 * @param attributes - what was asked for
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for values out of range
 */
export function applyAttributes(program: LaunchProgram, attributes: Attributes): void {
  const { uid, gid, groups, umask, rlimits, nice, affinity, session, parentDeathSignal } = attributes;
  if (attributes.oomScoreAdj !== undefined) setOomScoreAdj(program, attributes.oomScoreAdj);
  if (session) program.step('host', 'setsid', []);
  for (const [name, limit] of Object.entries(rlimits ?? {})) {
    const resource = Object.hasOwn(resources, name) ? resources[name as ResourceName] : undefined;
    if (resource === undefined) throw invalid(`no resource limit is called ${name}`);
    program.step('limits', 'prlimit64', [0, resource, limitBytes(name, limit), null], {
      text: `setrlimit(${name}, ${JSON.stringify(limit)})`,
      hint: { EPERM: 'raising a hard limit needs CAP_SYS_RESOURCE', EINVAL: 'a soft limit is not above its hard one' },
    });
  }
  if (nice !== undefined)
    program.step('limits', 'setpriority', [0, 0, integer('nice', nice, -20, 19)], {
      hint: 'a lower nice value needs CAP_SYS_NICE or a higher RLIMIT_NICE',
    });
  if (affinity !== undefined)
    program.step('limits', 'sched_setaffinity', [0, 128, cpuMask(affinity)], {
      text: `sched_setaffinity([${affinity}])`,
      hint: { EINVAL: 'none of these processors is there, or in its cpuset' },
    });
  if (umask !== undefined) program.step('limits', 'umask', [integer('umask', umask, 0, 0o777)]);
  if (groups !== undefined || uid !== undefined || gid !== undefined) {
    if (groups !== undefined && !Array.isArray(groups)) throw invalid(`groups is no array: ${String(groups)}`);
    if (groups && groups.length > MAX_GROUPS) throw invalid(`a process has ${MAX_GROUPS} groups at the most`);
    const ids = (groups ?? []).map((group) => integer('groups', group, 0, MAX_ID));
    const bytes = Buffer.from(new Uint32Array(ids).buffer);
    program.step('credentials', 'setgroups', [ids.length, bytes], {
      text: `setgroups([${ids.join(', ')}])`,
      ...(groups
        ? { hint: 'setting groups needs CAP_SETGID, and setgroups=allow in the user namespace' }
        : { ignore: ['EPERM'] }),
    });
  }
  if (gid !== undefined)
    program.step('credentials', 'setresgid', Array(3).fill(integer('gid', gid, 0, MAX_ID)), idHint('gid'));
  if (uid !== undefined)
    program.step('credentials', 'setresuid', Array(3).fill(integer('uid', uid, 0, MAX_ID)), idHint('uid'));
  // A change of credentials clears it, so it comes after them.
  if (parentDeathSignal !== undefined) dieWithParent(program, signalNumber(parentDeathSignal));
}

const MAX_ID = 0xfffffffe;
const MAX_GROUPS = 65536;

function idHint(what: 'uid' | 'gid'): { hint: string } {
  return { hint: `the caller needs CAP_SET${what.toUpperCase()}, and a user namespace must map this ${what}` };
}

/** The child writes it itself, so that no instruction of the program runs without it. */
function setOomScoreAdj(program: LaunchProgram, value: number): void {
  const text = String(integer('oomScoreAdj', value, -1000, 1000));
  // From a child that shares this process's memory and does not hold it up, it would be set for this process too.
  if (program.blocking) return;
  const fd = program.step('birth', 'openat', [AT.FDCWD, '/proc/self/oom_score_adj', O.WRONLY | O.CLOEXEC], {
    hint: { EACCES: 'a plain user cannot set it in a launch that joins namespaces of others' },
  });
  program.step('birth', 'write', [fd, text, text.length], { text: `write(oom_score_adj, "${text}")`, hint: OOM_HINT });
}

const OOM_HINT = 'lowering oom_score_adj needs CAP_SYS_RESOURCE';

/**
 * Sets what a launch that may stand still could not set in the child.
 *
 * @param pid - the running child
 * @param attributes - as for {@link applyAttributes}
 * @throws KernelError `EACCES`, `EPERM`
 */
export function applyLateAttributes(pid: number, { oomScoreAdj }: Attributes): void {
  if (oomScoreAdj === undefined) return;
  using file = Fd.open(`/proc/${pid}/oom_score_adj`, { flags: O.WRONLY });
  const written = attempt('write', file, String(oomScoreAdj), String(oomScoreAdj).length);
  if (written < 0)
    throw new KernelError(written, {
      syscall: 'write',
      call: `write(oom_score_adj, "${oomScoreAdj}")`,
      hint: OOM_HINT,
    });
}

function integer(name: string, value: number, least: number, most: number): number {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw invalid(`${name} must be an integer from ${least} to ${most}, it is ${String(value)}`);
  }
  return value;
}

function limitBytes(name: string, limit: ResourceLimit): Buffer {
  const { soft, hard } = typeof limit === 'object' ? limit : { soft: limit, hard: limit };
  const bytes = Buffer.alloc(16);
  for (const [i, value] of [soft, hard].entries()) {
    const number =
      value === 'unlimited'
        ? 0xffffffffffffffffn
        : BigInt(integer(`rlimits.${name}`, value, 0, Number.MAX_SAFE_INTEGER));
    bytes.writeBigUInt64LE(number, i * 8);
  }
  return bytes;
}

function cpuMask(cpus: readonly number[]): Buffer {
  if (!Array.isArray(cpus) || cpus.length === 0) throw invalid('affinity names no processor');
  const mask = Buffer.alloc(128);
  for (const cpu of cpus) {
    const at = integer('affinity', cpu, 0, 1023);
    mask[at >> 3] = (mask[at >> 3] as number) | (1 << (at & 7));
  }
  return mask;
}
