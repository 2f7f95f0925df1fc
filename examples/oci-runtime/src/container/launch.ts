import type { Cgroup } from '@iso/cgroups';
import { type Child, type RunOptions, type SpawnOptions, spawn } from '@iso/process';
import { Supervisor } from '@iso/seccomp';
import { Fd, O, type Part } from '@iso/sys';
import { rootOf, rootPath } from '../config/mounts.js';
import { namespacesOf, namespacesOfProcess, refuseTracers } from '../config/namespaces.js';
import { privilegesOf } from '../config/privileges.js';
import { attributesOf, sysctlsOf } from '../config/process.js';
import type { Bundle } from '../config/read.js';
import { schedulingOf } from '../config/scheduling.js';
import type { Config, ProcessConfig } from '../config/spec.js';
import { RuntimeError } from '../error.js';
import { consoleOf } from './console.js';
import { Halt } from './halt.js';
import type { ProcessIdentity } from './identity.js';

/** What is done while a process is launched. */
export interface Meanwhile {
  /** When its namespaces and mounts are made, and its root is not entered. */
  atHalt?: ((init: ProcessIdentity) => Promise<void>) | undefined;
  /** When it has a filter that asks somebody. */
  underFilter(supervisor: Supervisor, init: ProcessIdentity): Promise<void>;
}

/** What a process has of who starts it. */
export interface Surroundings {
  /** It has the caller's session keyring, instead of one of its own. */
  callersKeys?: boolean;
  /** How many descriptors from 3 on it keeps. */
  preserveFds?: number;
  /** Path of the socket that gets its terminal. */
  consoleSocket?: string;
  /** Its terminal comes to this process where there is no socket: to whoever waits for its end. */
  terminalHere?: boolean;
}

/**
 * Starts the first process of a container: everything but its program, which waits for a byte.
 *
 * @param bundle - of the container, with a process
 * @param first - that process
 * @param places - its cgroup; the FIFO on which it waits
 * @param surroundings - descriptors, terminal
 * @param meanwhile - what is done before it waits
 * @returns the process
 */
export function launchFirst(
  { directory, config }: Bundle,
  first: ProcessConfig,
  { cgroup, gate }: { cgroup: Cgroup | undefined; gate: Fd },
  surroundings: Surroundings,
  meanwhile: Meanwhile,
): Promise<Child> {
  return launch(first, surroundings, meanwhile, {
    gate,
    confine: [
      ...(cgroup ? [cgroup] : []),
      namespacesOf(config),
      ...rootOf({ directory, config }),
      ...sysctlsOf(config),
      ...schedulingOf(config, first),
      ...privilegesOf(config, first),
    ],
  });
}

/** The container that a process is started beside. */
export interface Neighbour {
  cgroup: Cgroup | undefined;
  /** Its first process, and what holds that. */
  init: ProcessIdentity;
  pidfd: Fd;
}

/**
 * Starts another process in a container.
 *
 * @param config - of the container
 * @param added - the process
 * @param neighbour - the container
 * @param surroundings - descriptors, terminal
 * @param meanwhile - what is done before its program runs
 * @returns the process
 * @throws {@link RuntimeError} where a process of the container could write to this one's memory meanwhile
 */
export function launchBeside(
  config: Config,
  added: ProcessConfig,
  neighbour: Neighbour,
  surroundings: Surroundings,
  meanwhile: Meanwhile,
): Promise<Child> {
  refuseTracers({ pidfd: neighbour.pidfd });
  return launch(added, surroundings, meanwhile, beside(config, added, neighbour));
}

/**
 * What a hook that runs in a container is launched with: it is who the container's own program will be.
 *
 * @param config - of the container
 * @param first - its first process
 * @param neighbour - the container
 */
export function hookBeside(config: Config, first: ProcessConfig, neighbour: Neighbour): RunOptions {
  // The container's own program does not run yet, with whatever capabilities it will.
  refuseTracers({ pidfd: neighbour.pidfd }, neighbour.init.pid);
  const { gate, confine } = beside(config, first, neighbour);
  if (confine.some((part) => part instanceof Supervisor))
    throw new RuntimeError('hooks.startContainer under a filter with SCMP_ACT_NOTIFY: nobody would answer them');
  return { ...attributesOf(first), ...(gate === undefined ? {} : { gate }), confine: [ownKeys, ...confine] };
}

/**
 * What a hook is launched with that runs in the namespaces of a container whose root is not entered: its path is the host's, and so is its
 * root, with the container's where the host has that. It is who its first process is by then: privileges have not gone.
 *
 * @param bundle - of the container
 * @param neighbour - that stands still
 */
export function hookAtHalt(bundle: Bundle, { cgroup, init, pidfd }: Neighbour): RunOptions {
  const ownRoot: Part = {
    confine: (program) => {
      // Who joins a mount namespace comes out on top of whatever is mounted on its root.
      const root = Fd.open(`/proc/${init.pid}/root`, { flags: O.PATH | O.DIRECTORY });
      program.defer(() => root.close());
      program.step('root', 'fchdir', [root]);
      program.step('root', 'chroot', ['.']);
    },
  };
  return { cwd: rootPath(bundle), confine: [...(cgroup ? [cgroup] : []), namespacesOfProcess(init, pidfd), ownRoot] };
}

function beside(config: Config, added: ProcessConfig, { cgroup, init, pidfd }: Neighbour): Confinement {
  return {
    // What executes it is a sealed file: a script that names its own executable gets that, and not Node (CVE-2019-5736).
    gate: 'open',
    confine: [
      ...(cgroup ? [cgroup] : []),
      namespacesOfProcess(init, pidfd),
      ...schedulingOf(config, added),
      ...privilegesOf(config, added),
    ],
  };
}

type Confinement = Pick<SpawnOptions, 'gate'> & { confine: readonly Part[] };

async function launch(
  process_: ProcessConfig,
  { preserveFds = 0, consoleSocket, terminalHere = false, callersKeys = false }: Surroundings,
  { atHalt, underFilter }: Meanwhile,
  more: Confinement,
): Promise<Child> {
  const [file = '', ...args] = process_.args ?? [];
  const terminal = consoleOf(process_, consoleSocket, terminalHere);
  const supervisor = more.confine.find((part) => part instanceof Supervisor);
  using halt = atHalt || supervisor ? new Halt() : undefined;
  try {
    const stdio = Array.from({ length: 3 + preserveFds }, (_, i) => (terminal.console && i < 3 ? 'ignore' : i));
    const confine = [...(callersKeys ? [] : [ownKeys]), ...more.confine, ...(halt ? [halt] : [])];
    const launching = spawn(file, args, { ...attributesOf(process_), stdio, ...terminal, ...more, confine });
    if (!halt) return await launching;
    return await halt.during(launching, async (init) => {
      await atHalt?.(init);
      return supervisor && (() => underFilter(supervisor, init));
    });
  } finally {
    if (terminal.console instanceof Fd) terminal.console.close();
  }
}

/** Else it would have those of whoever calls the engine. */
const ownKeys: Part = {
  confine: (program) => {
    const KEYCTL_JOIN_SESSION_KEYRING = 1;
    program.step('privileges', 'keyctl', [KEYCTL_JOIN_SESSION_KEYRING, null], {
      text: 'keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)',
      // A kernel without keys has none to be kept from.
      ignore: ['ENOSYS'],
      hint: { EPERM: 'a filter over this process forbids a session keyring of its own: --no-new-keyring does without' },
    });
  },
};
