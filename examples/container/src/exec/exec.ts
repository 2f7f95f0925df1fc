import type { Cgroup } from '@iso/cgroups';
import { namespaces } from '@iso/namespaces';
import { type Child, type Stdio, spawn, type TerminalSize } from '@iso/process';
import { Profile } from '@iso/seccomp';
import { attempt, type Fd, KernelError, watchFd } from '@iso/sys';
import type { Confinement } from '../assemble.js';
import { foreignNamespaces } from '../control.js';
import { hardening, type Privileges, privilegesOf } from '../hardening.js';
import { UsageError, variables } from '../options.js';
import { checkShape, type Shape } from '../shape.js';
import { refuseTracers } from '../tracers.js';
import { findUser, supplementaryGroups, type User } from '../user.js';
import { noDirectory } from '../working-directory.js';

/** Where a process is to run. */
export interface ExecTarget {
  /** The container's first process. */
  readonly pid: number;
  /** Its pidfd: it stands for that process whatever becomes of the number. */
  readonly pidfd: Fd;
  /** The container's cgroup, where it has one. */
  readonly cgroup?: Cgroup | undefined;
  /** What each of the container's processes gets. */
  readonly confinement: Confinement;
}

/** How a process in a running container differs from the first one. */
export interface ExecOptions {
  /** `NAME=VALUE`, or `NAME` to take this process's value; besides those of the container. */
  env?: readonly string[];
  /** Working directory inside, an absolute path; default the container's. */
  cwd?: string;
  /** `NAME|UID[:GROUP|GID]`, looked up in the container's own files as they are now; default the container's user. */
  user?: string;
  /** All capabilities that the container's user namespace has, and programs that gain privileges; system calls by the container's profile. */
  privileged?: boolean;
  /** Its descriptors, default `'pipe'`. */
  stdio?: Stdio;
  /** Size of its terminal where `stdio` is `pty`. */
  terminal?: TerminalSize;
  /** Kills it when aborted. */
  signal?: AbortSignal;
  /** It outlives this process. Default: it dies with it. */
  detached?: boolean;
}

const execShape: Readonly<Record<keyof ExecOptions, Shape>> = {
  env: 'a list of texts',
  cwd: 'text',
  user: 'text',
  privileged: 'true or false',
  stdio: 'text or a list',
  terminal: 'an object',
  signal: 'an object',
  detached: 'true or false',
};

/**
 * Runs a command in a running container: in its namespaces, found by the pidfd of its first process, in its cgroup and its root, with its
 * ids, limits, capabilities and filter, in a session of its own.
 *
 * @param target - the container
 * @param command - program and arguments
 * @param options - what is different
 * @returns the running process
 * @throws {@link UsageError} for options that make no sense, where the container has ended, and where one of its processes could
 *   write to this one's memory meanwhile, and where the container keeps it from being started for ten seconds; KernelError with the `step` that failed
 */
export async function execIn(
  target: ExecTarget,
  command: readonly [file: string, ...args: string[]],
  options: ExecOptions = {},
): Promise<Child> {
  checkShape(options, execShape, 'exec');
  const { pid, pidfd, cgroup, confinement } = target;
  const { cwd = confinement.cwd, stdio = 'pipe', terminal, signal } = options;
  if (!cwd.startsWith('/'))
    throw new UsageError(`the working directory must be an absolute path, not ${JSON.stringify(cwd)}`);
  const [file, ...args] = command;
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(new UsageError(LATE)), MOST_TO_START_MS);
  try {
    const foreign = foreignNamespaces(pid);
    refuseTracers({ pidfd });
    const user = options.user === undefined ? undefined : findUser(`/proc/${pid}/root`, options.user);
    const ids = idsOf(confinement, user);
    // What was read by its number was its own for as long as it is there.
    if (attempt('pidfd_send_signal', pidfd, 0, null, 0) < 0) throw new UsageError('the container has ended');
    const privileges = privilegesIn(confinement.privileges, foreign.includes('user'), options.privileged ?? false);
    return await spawn(file, args, {
      gate: 'open',
      confine: [
        ...(cgroup ? [cgroup] : []),
        namespaces(Object.fromEntries(foreign.map((type) => [type, { pidfd }]))),
        ...hardening(privileges, { uid: ids?.uid ?? 0 }),
      ],
      env: environmentIn(confinement, options, user),
      cwd,
      ...(stdio === 'pty' ? { console: 'pty' } : { stdio }),
      session: true,
      umask: 0o022,
      rlimits: confinement.rlimits,
      ...(ids && { uid: ids.uid, gid: ids.gid, groups: ids.groups }),
      ...(options.detached ? {} : { parentDeathSignal: 'SIGKILL' }),
      ...(terminal ? { terminal } : {}),
      signal: signal ? AbortSignal.any([signal, late.signal]) : late.signal,
      killSignal: 'SIGKILL',
    });
  } catch (error) {
    if (await hasEnded(pidfd, error)) throw new UsageError('the container has ended', { cause: error });
    throw noDirectory(error, cwd) ?? error;
  } finally {
    clearTimeout(timer);
  }
}

/** A plain user's container has one user, which namespaces() makes it. */
function idsOf({ ids }: Confinement, user: User | undefined): Confinement['ids'] {
  if (!user) return ids;
  // Of a record that is older than this member, all of them were asked for.
  const { groupAdd = ids?.groups ?? [] } = ids ?? {};
  if (ids) return { uid: user.uid, gid: user.gid, groups: supplementaryGroups(user, groupAdd, true), groupAdd };
  if (user.uid === 0 && user.gid === 0) return undefined;
  throw new UsageError(
    'without root only user 0 is mapped: a range of ids needs newuidmap and an entry in /etc/subuid',
  );
}

/** Those of the container, never more, unless it is asked for by name. From a record, a profile comes as its document. */
function privilegesIn(privileges: Privileges, ownUser: boolean, privileged: boolean): Privileges {
  const { seccomp } = privileges;
  const revived = {
    ...privileges,
    seccomp: typeof seccomp === 'string' || seccomp instanceof Profile ? seccomp : Profile.parse(seccomp),
  };
  return privileged ? privilegesOf({ privileged, seccomp: revived.seccomp }, ownUser) : revived;
}

function environmentIn({ env }: Confinement, options: ExecOptions, user: User | undefined): Record<string, string> {
  const tty = options.stdio === 'pty' && env.TERM === undefined;
  return {
    ...env,
    ...(user ? { HOME: user.home } : {}),
    ...(tty ? { TERM: 'xterm' } : {}),
    ...variables(options.env ?? []),
  };
}

/** What a container that ends makes fail, fails in many ways, and before its first process is known to be gone. */
async function hasEnded(pidfd: Fd, error: unknown): Promise<boolean> {
  const { code, step } = error as Partial<KernelError>;
  const known = KernelError.is(error) ? step?.phase === 'cwd' : code !== 'ENOENT';
  if (known || pidfd.closed) return !known;
  using held = pidfd.duplicate();
  return await watchFd(held, { signal: AbortSignal.timeout(LAST_MOMENT_MS) }).then(
    () => true,
    () => false,
  );
}

const LAST_MOMENT_MS = 200;

/** Processes of the container can stop what joins it. */
const MOST_TO_START_MS = 10_000;
const LATE = `the command was not started within ${MOST_TO_START_MS / 1000} s: the container has stopped what was to start it`;
