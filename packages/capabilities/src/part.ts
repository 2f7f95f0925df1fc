import { addressOf, invalid, type LaunchProgram, type Part, PR } from '@iso/sys';
import { type CapabilityList, type CapabilityMask, capabilityName, lastCapability, maskOf } from './name.js';
import { capData, header, type SecureBit, text } from './process.js';
import { AMBIENT, DATA, PRCTL, SECUREBITS } from './raw/capability.js';

/** What a process gets. */
export interface CapabilitiesOptions {
  /**
   * What stays in the bounding set, and so what an exec can give at the most: to root all of it. Default is what the caller, or
   * the user namespace, has.
   */
  readonly bounding?: CapabilityList;
  /** Default is what `effective`, `inheritable` and `ambient` need, where one of them is given; else it stays. */
  readonly permitted?: CapabilityList;
  /** Default is what is permitted. */
  readonly effective?: CapabilityList;
  /** Default is `ambient`, and so none: what is inheritable gets past the bounding set (CVE-2022-24769). */
  readonly inheritable?: CapabilityList;
  /** Default is none. What a user other than root keeps over the exec. */
  readonly ambient?: CapabilityList;
  /** Default is what the caller has. */
  readonly securebits?: readonly SecureBit[];
  /** No exec gives it more than it has: set-user-id bits and file capabilities are of no effect. Default is false. */
  readonly noNewPrivileges?: boolean;
}

const known: Record<keyof CapabilitiesOptions, true> = {
  bounding: true,
  permitted: true,
  effective: true,
  inheritable: true,
  ambient: true,
  securebits: true,
  noNewPrivileges: true,
};

/**
 * Sets the capabilities of a launched process. The bounding set goes before its ids change, the others after. An exec by root
 * then gives all that is bounding, so a root process keeps exactly what both are set to; any other user keeps what is ambient.
 * Taking from the bounding set and setting securebits needs CAP_SETPCAP, which root in a user namespace of its own has.
 *
 * @param options - which
 * @returns a part for a launch
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for names that there are not, and for sets that the kernel would refuse
 *
 * @example
 * ```ts root
 * import { capabilities } from '@iso/capabilities';
 * import { run } from '@iso/process';
 * // A plain user that may bind low ports, and nothing more.
 * const port = capabilities({ bounding: ['NET_BIND_SERVICE'], ambient: ['NET_BIND_SERVICE'], noNewPrivileges: true });
 * const { stdout } = await run('grep', ['CapEff', '/proc/self/status'], { uid: 1000, gid: 1000, confine: [port] });
 * if (stdout !== 'CapEff:\t0000000000000400\n') throw new Error(stdout);
 * ```
 */
export function capabilities(options: CapabilitiesOptions): Part {
  const sets = judge(options);
  return { confine: (program) => confine(program, sets) };
}

interface Exact {
  readonly permitted: CapabilityMask;
  readonly effective: CapabilityMask;
  readonly inheritable: CapabilityMask;
}

interface Sets {
  readonly bounding: CapabilityMask | undefined;
  /** Undefined: only what is inheritable goes. */
  readonly exact: Exact | undefined;
  readonly ambient: CapabilityMask;
  readonly securebits: number | undefined;
  readonly noNewPrivileges: boolean;
}

function judge(options: CapabilitiesOptions): Sets {
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw invalid(`capabilities takes an object with options, not ${String(options)}`);
  const unknown = Object.keys(options).find((name) => !Object.hasOwn(known, name));
  if (unknown !== undefined)
    throw invalid(`there is no option ${JSON.stringify(unknown)}, there are ${Object.keys(known).join(', ')}`);
  const set = (name: 'bounding' | 'permitted' | 'effective' | 'inheritable' | 'ambient') =>
    options[name] === undefined ? undefined : maskOf(options[name]);
  const [bounding, ambient = 0n] = [set('bounding'), set('ambient')];
  const inheritable = set('inheritable') ?? ambient;
  const given = set('effective') ?? 0n;
  const asked = ['permitted', 'effective', 'inheritable', 'ambient'] as const;
  const permitted = set('permitted') ?? given | inheritable | ambient;
  const exact = asked.some((name) => options[name] !== undefined)
    ? { permitted, effective: set('effective') ?? permitted, inheritable }
    : undefined;
  const within = (what: string, part: CapabilityMask, of: string, whole: CapabilityMask) => {
    if ((part & whole) !== part) throw invalid(`${what} must be ${of} too: ${text(part & ~whole)}`);
  };
  within('what is effective', exact?.effective ?? 0n, 'permitted', permitted);
  within('what is ambient', ambient, 'permitted', permitted);
  within('what is ambient', ambient, 'inheritable', inheritable);
  if (bounding !== undefined) within('what is inheritable', inheritable, 'bounding', bounding);
  const { noNewPrivileges = false, securebits } = options;
  if (typeof noNewPrivileges !== 'boolean')
    throw invalid(`noNewPrivileges is true or false, not ${String(noNewPrivileges)}`);
  return { bounding, exact, ambient, securebits: securebits && bitsOf(securebits), noNewPrivileges };
}

function bitsOf(names: readonly SecureBit[]): number {
  if (!Array.isArray(names)) throw invalid(`securebits must be an array: ${String(names)}`);
  let bits = 0;
  for (const name of names) {
    if (!Object.hasOwn(SECUREBITS, name))
      throw invalid(`no securebit: ${JSON.stringify(name)}, there are ${Object.keys(SECUREBITS).join(', ')}`);
    bits |= 1 << SECUREBITS[name as SecureBit];
  }
  return bits;
}

function confine(program: LaunchProgram, { bounding, exact, ambient, securebits, noNewPrivileges }: Sets): void {
  if (program.ending !== 'process') throw invalid('capabilities are for a process, not for an errand');
  if (bounding !== undefined) dropBounding(program, bounding);
  // What it is to have in the end must survive that it becomes another user.
  if (exact && (exact.permitted !== 0n || securebits !== undefined))
    program.step('bounding', 'prctl', [PR.SET_KEEPCAPS, 1, 0, 0, 0], {
      text: 'prctl(PR_SET_KEEPCAPS, 1)',
      // Locked: then it stays as it is.
      ignore: ['EPERM'],
    });
  if (exact) {
    // Securebits may forbid the raising of what is ambient, and need a capability that it may not be left with.
    const first = securebits === undefined ? 0n : maskOf(['SETPCAP']);
    if ((first & ~exact.effective) !== 0n) setExactly(program, widen(exact, first));
    else setExactly(program, exact);
  } else clearInheritable(program);
  program.step('privileges', 'prctl', [PR.CAP_AMBIENT, AMBIENT.CLEAR_ALL, 0, 0, 0], {
    text: 'prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)',
  });
  for (const number of bits(ambient))
    program.step('privileges', 'prctl', [PR.CAP_AMBIENT, AMBIENT.RAISE, number, 0, 0], {
      text: `prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_${capabilityName(number)})`,
      hint: { EPERM: 'a securebit of the caller forbids it' },
    });
  if (securebits !== undefined)
    program.step(exact ? 'privileges' : 'bounding', 'prctl', [PR.SET_SECUREBITS, securebits, 0, 0, 0], {
      text: `prctl(PR_SET_SECUREBITS, ${securebits})`,
      hint: { EPERM: 'it needs CAP_SETPCAP, and leaves locked bits alone' },
    });
  if (exact && securebits !== undefined) setExactly(program, exact);
  if (noNewPrivileges)
    program.step('privileges', 'prctl', [PR.SET_NO_NEW_PRIVS, 1, 0, 0, 0], { text: 'prctl(PR_SET_NO_NEW_PRIVS)' });
}

function widen({ permitted, effective, inheritable }: Exact, by: CapabilityMask): Exact {
  return { permitted: permitted | by, effective: effective | by, inheritable };
}

function setExactly(program: LaunchProgram, exact: Exact): void {
  const { permitted, effective, inheritable } = exact;
  program.step('privileges', 'capset', [header(0), capData(exact)], {
    text: `capset({effective: [${text(effective)}], permitted: [${text(permitted)}], inheritable: [${text(inheritable)}]})`,
    hint: { EPERM: 'it can have no capability that the caller, or its user namespace, does not have' },
  });
}

function dropBounding(program: LaunchProgram, kept: CapabilityMask): void {
  for (let number = 0; number <= lastCapability(); number++) {
    if ((kept >> BigInt(number)) & 1n) continue;
    program.step('bounding', 'prctl', [PR.CAPBSET_DROP, number, 0, 0, 0], {
      text: `prctl(PR_CAPBSET_DROP, CAP_${capabilityName(number)})`,
      hint: { EPERM: 'it needs CAP_SETPCAP: of the caller, or in a user namespace of its own' },
    });
  }
}

/**
 * Nobody knows here what the child has by then, but capset sets three sets at once. So it reads them first, and two calls
 * that only answer a 0 write that over the halves of what is inheritable.
 */
function clearInheritable(program: LaunchProgram): void {
  const data = Buffer.from(new ArrayBuffer(2 * DATA.size));
  const address = addressOf(data);
  program.defer(() => void data.length);
  const own = header(0);
  program.step('privileges', 'capget', [own, address], { text: 'capget(its sets)' });
  for (const half of [0, DATA.size])
    program.step(
      'privileges',
      'prctl',
      [PRCTL.GET_CHILD_SUBREAPER, address + BigInt(half + DATA.inheritable), 0, 0, 0],
      {
        text: `prctl(PR_GET_CHILD_SUBREAPER, its sets + ${half + DATA.inheritable})`,
      },
    );
  program.step('privileges', 'capset', [own, address], { text: 'capset(its sets, nothing inheritable)' });
}

function bits(mask: CapabilityMask): number[] {
  return Array.from({ length: 64 }, (_, i) => i).filter((i) => (mask >> BigInt(i)) & 1n);
}
