import type { Cgroup } from '@iso/cgroups';
import { type Child, type SpawnOptions, spawn } from '@iso/process';
import type { Fd, Part } from '@iso/sys';
import { rootOf } from '../config/mounts.js';
import { namespacesOf, namespacesOfProcess } from '../config/namespaces.js';
import { attributesOf, filterOf, privilegesOf, sysctlsOf } from '../config/process.js';
import type { Bundle } from '../config/read.js';
import type { Config, ProcessConfig } from '../config/spec.js';
import { connectConsole } from './console.js';
import type { ProcessIdentity } from './identity.js';

/** What a process has of who starts it. */
export interface Surroundings {
  /** It has the caller's session keyring, instead of one of its own. */
  callersKeys?: boolean;
  /** How many descriptors from 3 on it keeps. */
  preserveFds?: number;
  /** Path of the socket that gets its terminal. */
  consoleSocket?: string;
}

/**
 * Starts the first process of a container: everything but its program, which waits for a byte.
 *
 * @param bundle - of the container, with a process
 * @param first - that process
 * @param places - its cgroup; the FIFO on which it waits
 * @param surroundings - descriptors, terminal
 * @returns the process
 */
export function launchFirst(
  { directory, config }: Bundle,
  first: ProcessConfig,
  { cgroup, gate }: { cgroup: Cgroup | undefined; gate: Fd },
  surroundings: Surroundings,
): Promise<Child> {
  return launch(first, surroundings, {
    gate,
    confine: [
      ...(cgroup ? [cgroup] : []),
      namespacesOf(config),
      rootOf({ directory, config }),
      ...sysctlsOf(config),
      ...privilegesOf(first),
      ...filterOf(config),
    ],
  });
}

/**
 * Starts another process in a container.
 *
 * @param config - of the container
 * @param added - the process
 * @param places - the container's cgroup; its first process and what holds that
 * @param surroundings - descriptors, terminal
 * @returns the process
 */
export function launchBeside(
  config: Config,
  added: ProcessConfig,
  { cgroup, init, pidfd }: { cgroup: Cgroup | undefined; init: ProcessIdentity; pidfd: Fd },
  surroundings: Surroundings,
): Promise<Child> {
  return launch(added, surroundings, {
    // What executes it is a sealed file: a script that names its own executable gets that, and not Node (CVE-2019-5736).
    gate: 'open',
    confine: [
      ...(cgroup ? [cgroup] : []),
      namespacesOfProcess(init, pidfd),
      ...privilegesOf(added),
      ...filterOf({ ...config, process: added }),
    ],
  });
}

async function launch(
  process_: ProcessConfig,
  { preserveFds = 0, consoleSocket, callersKeys = false }: Surroundings,
  more: Pick<SpawnOptions, 'gate'> & { confine: readonly Part[] },
): Promise<Child> {
  const [file = '', ...args] = process_.args ?? [];
  const terminal = connectConsole(process_, consoleSocket);
  try {
    const stdio = Array.from({ length: 3 + preserveFds }, (_, i) => (terminal.console && i < 3 ? 'ignore' : i));
    const confine = callersKeys ? more.confine : [ownKeys, ...more.confine];
    return await spawn(file, args, { ...attributesOf(process_), stdio, ...terminal, ...more, confine });
  } finally {
    terminal.console?.close();
  }
}

/** Else it would have those of whoever calls the engine. */
const ownKeys: Part = {
  confine: (program) => {
    const KEYCTL_JOIN_SESSION_KEYRING = 1;
    program.step('privileges', 'keyctl', [KEYCTL_JOIN_SESSION_KEYRING, null], {
      text: 'keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)',
      // A kernel without keys, or a filter over this process.
      ignore: ['ENOSYS', 'EPERM'],
    });
  },
};
