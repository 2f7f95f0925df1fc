import { readFileSync } from 'node:fs';
import { invalid, KernelError, syscall } from '@iso/sys';
import { type CapabilityMask, namesOf } from './name.js';
import { DATA, PRCTL, SECUREBITS, VERSION_3 } from './raw/capability.js';

/** A bit of a process's securebits, see capabilities(7). */
export type SecureBit = keyof typeof SECUREBITS;

/** The capabilities of a thread. */
export interface CapabilitySets {
  /** What it may take into the effective set. */
  readonly permitted: CapabilityMask;
  /** What is in force. */
  readonly effective: CapabilityMask;
  /** What it may pass on to a file that has it inheritable. */
  readonly inheritable: CapabilityMask;
  /** What an exec can give at the most. */
  readonly bounding: CapabilityMask;
  /** What stays over the exec of a file that has no capabilities. */
  readonly ambient: CapabilityMask;
}

/** What /proc tells of the privileges of a thread. */
export interface ProcessCapabilities extends CapabilitySets {
  /** No exec gives it more, see PR_SET_NO_NEW_PRIVS. */
  readonly noNewPrivileges: boolean;
}

/**
 * The five sets of a process's main thread, or of any thread by its id, as /proc/PID/status has them.
 *
 * @param pid - default is this process
 * @returns the sets, and no_new_privs
 * @throws KernelError `ESRCH` where there is no such process
 *
 * @example
 * ```ts
 * import { capabilitiesOf, namesOf } from '@iso/capabilities';
 * const { effective, bounding, noNewPrivileges } = capabilitiesOf();
 * console.log(namesOf(effective), namesOf(bounding), noNewPrivileges);
 * ```
 */
export function capabilitiesOf(pid: number | 'self' = 'self'): ProcessCapabilities {
  if (pid !== 'self' && !(Number.isInteger(pid) && pid > 0)) throw invalid(`not a process id: ${String(pid)}`);
  let status: string;
  try {
    status = readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch (cause) {
    const hint = 'there is no such process, or /proc hides it (hidepid)';
    throw new KernelError(ESRCH, { syscall: 'open', path: `/proc/${pid}/status`, hint, cause });
  }
  const field = (name: string) => new RegExp(`^${name}:\\s*(\\w+)$`, 'm').exec(status)?.[1] ?? '0';
  const set = (name: string) => BigInt(`0x${field(name)}`);
  return {
    permitted: set('CapPrm'),
    effective: set('CapEff'),
    inheritable: set('CapInh'),
    bounding: set('CapBnd'),
    ambient: set('CapAmb'),
    noNewPrivileges: field('NoNewPrivs') === '1',
  };
}

const ESRCH = 3;

/**
 * The three sets that capget(2) knows: without /proc.
 *
 * @param pid - of a process or thread; 0 is the calling thread
 * @returns the sets
 * @throws KernelError `ESRCH`, `EPERM`
 */
export function capget(pid = 0): Pick<CapabilitySets, 'permitted' | 'effective' | 'inheritable'> {
  const data = Buffer.alloc(2 * DATA.size);
  syscall('capget', header(pid), data);
  const set = (offset: number) =>
    BigInt(data.readUInt32LE(offset)) | (BigInt(data.readUInt32LE(DATA.size + offset)) << 32n);
  return { permitted: set(DATA.permitted), effective: set(DATA.effective), inheritable: set(DATA.inheritable) };
}

/** struct __user_cap_header_struct. */
export function header(pid: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(VERSION_3, 0);
  bytes.writeInt32LE(pid, 4);
  return bytes;
}

/** Two of struct __user_cap_data_struct. */
export function capData(sets: Pick<CapabilitySets, 'permitted' | 'effective' | 'inheritable'>): Buffer {
  const data = Buffer.alloc(2 * DATA.size);
  for (const name of ['effective', 'permitted', 'inheritable'] as const) {
    data.writeUInt32LE(Number(sets[name] & 0xffffffffn), DATA[name]);
    data.writeUInt32LE(Number(sets[name] >> 32n), DATA.size + DATA[name]);
  }
  return data;
}

/**
 * The securebits of this process.
 *
 * @returns those that are set
 */
export function secureBits(): SecureBit[] {
  const bits = syscall('prctl', PRCTL.GET_SECUREBITS, 0, 0, 0, 0);
  return (Object.keys(SECUREBITS) as SecureBit[]).filter((name) => (bits >> SECUREBITS[name]) & 1);
}

/** Names, for messages. */
export function text(mask: CapabilityMask): string {
  return namesOf(mask).join(', ') || 'none';
}
