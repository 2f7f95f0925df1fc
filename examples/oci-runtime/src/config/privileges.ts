import {
  type CapabilitiesOptions,
  type CapabilityName,
  capabilities,
  capabilityNumber,
  lastCapability,
  namesOf,
} from '@iso/capabilities';
import { Profile, Supervisor, seccomp } from '@iso/seccomp';
import type { Part } from '@iso/sys';
import { RuntimeError } from '../error.js';
import type { CapabilitySet, Config, ProcessConfig } from './spec.js';

type Sets = Record<CapabilitySet, CapabilityName[]>;

/**
 * Capabilities, no_new_privs and the filter of system calls of a process.
 *
 * Without no_new_privs the kernel takes filters from holders of CAP_SYS_ADMIN alone. Where the process is not to be one, it is until
 * its filter is installed, and then gives the capability up: the last that it does before its program, which the filter must allow.
 *
 * @param config - of the container
 * @param process_ - the process
 * @returns parts of its launch
 * @throws {@link RuntimeError} for a filter that asks nobody; SeccompError for what is no filter
 */
export function privilegesOf(config: Config, process_: ProcessConfig): Part[] {
  const { noNewPrivileges = false } = process_;
  const sets = setsOf(process_);
  const filter = filterOf(config, process_);
  const lent: CapabilityName[] =
    filter && !noNewPrivileges && !sets.effective.includes('SYS_ADMIN') ? ['SYS_ADMIN'] : [];
  const options: CapabilitiesOptions = {
    ...sets,
    permitted: [...new Set([...sets.permitted, ...lent])],
    effective: [...sets.effective, ...lent],
    noNewPrivileges,
  };
  return [capabilities(options), ...(filter ? [filter] : []), ...(lent.length ? [giveBack(sets)] : [])];
}

function setsOf({ capabilities: sets }: ProcessConfig): Sets {
  const known = new Set<string>(namesOf((1n << BigInt(lastCapability() + 1)) - 1n));
  const of = (set: CapabilitySet) =>
    [...new Set(sets?.[set] ?? [])].map((name) => name.replace(/^CAP_/, '')).filter((name) => known.has(name));
  // The specification has it so: less is granted than was asked for.
  const unknown = new Set(
    Object.values(sets ?? {})
      .flat()
      .filter((name) => !known.has(name.replace(/^CAP_/, ''))),
  );
  if (unknown.size > 0)
    process.emitWarning(
      `process.capabilities: ${[...unknown].join(', ')} cannot be granted, this kernel knows none of that name`,
    );
  const inheritable = of('inheritable');
  // A set that is not named is empty: nothing of the caller's stays.
  return {
    bounding: of('bounding'),
    permitted: of('permitted'),
    effective: of('effective'),
    inheritable,
    // What is not inheritable cannot be ambient; other runtimes pass it over too.
    ambient: of('ambient').filter((name) => inheritable.includes(name)),
  } as Sets;
}

/** One that asks is a {@link Supervisor}: somebody has to be given its listener. */
function filterOf({ linux }: Config, process_: ProcessConfig): Part | undefined {
  if (!linux?.seccomp) return undefined;
  const { listenerPath, listenerMetadata, ...data } = linux.seccomp;
  if (listenerMetadata !== undefined && listenerPath === undefined)
    throw new RuntimeError('linux.seccomp.listenerMetadata without a listenerPath');
  const profile = Profile.parse({ syscalls: [], ...data });
  const filter = profile.filter({ capabilities: process_.capabilities?.bounding ?? [] });
  const options = { flags: profile.flags, noNewPrivileges: process_.noNewPrivileges ?? false };
  if (!filter.actions.includes('notify')) return seccomp(filter, options);
  if (listenerPath === undefined) throw new RuntimeError('linux.seccomp: SCMP_ACT_NOTIFY without a listenerPath');
  return new Supervisor(filter, options);
}

/** The sets as they are to be in the end: behind the filter. */
function giveBack(sets: Sets): Part {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(VERSION_3);
  const data = Buffer.alloc(24);
  for (const [i, set] of (['effective', 'permitted', 'inheritable'] as const).entries())
    for (const name of sets[set]) {
      const number = capabilityNumber(name);
      const at = (number >> 5) * 12 + i * 4;
      data.writeUInt32LE((data.readUInt32LE(at) | (1 << (number & 31))) >>> 0, at);
    }
  return {
    confine: (program) =>
      void program.step('filter', 'capset', [header, data], {
        text: 'capset(without CAP_SYS_ADMIN)',
        hint: 'without no_new_privs the filter of system calls must allow capset, by which its process gives up CAP_SYS_ADMIN',
      }),
  };
}

/** Of the structures of capset(2): 64 bits in two halves. */
const VERSION_3 = 0x20080522;
