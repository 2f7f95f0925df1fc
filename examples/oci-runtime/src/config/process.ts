import type { Attributes, ResourceName } from '@iso/process';
import { AT, O, type Part } from '@iso/sys';
import { RuntimeError } from '../error.js';
import { processors } from './scheduling.js';
import type { Config, ProcessConfig } from './spec.js';

/**
 * An environment as `spawn` takes it.
 *
 * @param env - `NAME=VALUE`
 */
export function variablesOf(env: readonly string[]): Record<string, string> {
  return Object.fromEntries(env.map((variable) => variable.split(/=(.*)/s).slice(0, 2) as [string, string]));
}

/**
 * What a process of a container is and may do, without its namespaces.
 *
 * @param process_ - as it was described
 * @returns options of `spawn`
 * @throws {@link RuntimeError} for what there is not
 */
export function attributesOf(process_: ProcessConfig): Attributes & { env: Record<string, string>; cwd: string } {
  const { user = {}, env = [], cwd, oomScoreAdj, rlimits = [], execCPUAffinity } = process_;
  return {
    uid: user.uid ?? 0,
    gid: user.gid ?? 0,
    // Where none are named those of the caller go, as far as a plain user's namespace lets them.
    ...(user.additionalGids ? { groups: user.additionalGids } : {}),
    umask: user.umask ?? 0o022,
    env: variablesOf(env),
    cwd,
    session: true,
    rlimits: Object.fromEntries(
      rlimits.map(({ type, soft, hard }) => [
        type.replace(/^RLIMIT_/, '').toLowerCase() as ResourceName,
        { soft: limit(soft), hard: limit(hard) },
      ]),
    ),
    ...(oomScoreAdj === undefined ? {} : { oomScoreAdj }),
    ...(execCPUAffinity?.final ? { affinity: processors(execCPUAffinity.final) } : {}),
  };
}

/** What JSON has of numbers ends before the kernel's "no limit" does. */
function limit(value: number): number | 'unlimited' {
  return value > Number.MAX_SAFE_INTEGER ? 'unlimited' : value;
}

/**
 * Kernel settings of the container's own namespaces.
 *
 * @param config - of the bundle
 * @returns parts of the launch
 * @throws {@link RuntimeError} for settings that are no namespace's own: they would be the host's
 */
export function sysctlsOf({ linux }: Config): Part[] {
  const types = new Set((linux?.namespaces ?? []).filter(({ path }) => !path).map(({ type }) => type));
  return Object.entries(linux?.sysctl ?? {}).map(([name, value]) => {
    const owner = ownerOf(name);
    if (!owner || !types.has(owner))
      throw new RuntimeError(`sysctl ${name} is not of a namespace that the container has of its own`);
    const path = `/proc/sys/${name.replaceAll('.', '/')}`;
    return {
      confine: (program) => {
        // By the host's /proc, which shows each process its own; the container's is read-only by now.
        const file = program.step('host', 'openat', [AT.FDCWD, path, O.WRONLY | O.CLOEXEC, 0]);
        program.step('host', 'write', [file, value, Buffer.byteLength(value)], { text: `write(${path})` });
        program.step('host', 'close', [file]);
      },
    };
  });
}

const ipc = /^(kernel\.(msgmax|msgmnb|msgmni|sem|shmall|shmmax|shmmni|shm_rmid_forced)|fs\.mqueue\.[a-z_]+)$/;

function ownerOf(name: string): 'network' | 'ipc' | 'uts' | undefined {
  if (/^net\.[\w.-]+$/.test(name) && !name.includes('..')) return 'network';
  if (ipc.test(name)) return 'ipc';
  return name === 'kernel.hostname' || name === 'kernel.domainname' ? 'uts' : undefined;
}
