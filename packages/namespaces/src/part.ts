import { invalid, type LaunchProgram, type Part } from '@iso/sys';
import { bringLoopbackUp } from './loopback.js';
import { Namespace, type NamespaceSource, setNames, setTimeOffsets } from './namespace.js';
import { type NamespaceType, types } from './type.js';
import { type UserMapping, UserNamespace } from './user.js';

/** A namespace of a launch: `new`, the caller's (`host`), or one that exists. */
export type Choice = 'new' | 'host' | Namespace | NamespaceSource;

/** Which namespaces a process gets; what is not named stays the caller's. */
export interface NamespacesOptions {
  mount?: Choice;
  pid?: Choice;
  ipc?: Choice;
  cgroup?: Choice;
  /** A new one has its loopback up. */
  net?: Choice;
  /** Names make it a new one. */
  uts?: Choice | { hostname?: string; domainname?: string };
  /** Offsets in seconds make it a new one, see time_namespaces(7). */
  time?: Choice | { monotonic?: number; boottime?: number };
  /** Maps make it a new one; `root` makes the caller 0 inside, `self` keeps its ids. */
  user?: Choice | UserMapping;
}

/**
 * Confines a launch by namespaces. Creating any but a user namespace needs CAP_SYS_ADMIN, or `user` in the same launch.
 *
 * @param options - which
 * @returns a part for a launch
 *
 * @example
 * ```ts root
 * import { namespaces } from '@iso/namespaces';
 * import { LaunchProgram } from '@iso/sys';
 * const program = new LaunchProgram();
 * void namespaces({ pid: 'new', net: 'new', uts: { hostname: 'box' } }).confine(program);
 * if (!program.explain().includes('CLONE_NEWPID')) throw new Error('no pid namespace');
 * ```
 */
export function namespaces(options: NamespacesOptions): Part {
  return { confine: (program) => confine(program, options) };
}

function confine(program: LaunchProgram, options: NamespacesOptions): void {
  if (options.user !== undefined && options.user !== 'host') joinUser(program, options.user);
  for (const type of ['mount', 'pid', 'net', 'uts', 'ipc', 'cgroup', 'time'] as const) {
    const choice = options[type];
    if (choice === undefined || choice === 'host') continue;
    if (choice !== 'new' && isExisting(choice)) join(program, choice, type);
    else {
      program.unshare(types[type].flag);
      if (type === 'net') bringLoopbackUp(program);
      if (type === 'uts' && typeof choice === 'object') setNames(program, choice as { hostname?: string });
      if (type === 'time' && typeof choice === 'object') setTimeOffsets(program, choice as { monotonic?: number });
    }
  }
}

function isExisting(choice: object): choice is Namespace | NamespaceSource {
  return choice instanceof Namespace || 'pid' in choice || 'path' in choice || 'pidfd' in choice || 'fd' in choice;
}

function join(program: LaunchProgram, choice: Namespace | NamespaceSource, type: NamespaceType): void {
  let namespace: Namespace;
  if (choice instanceof Namespace) {
    if (choice.type !== type) throw invalid(`it is a ${choice.type} namespace, not ${type}`);
    namespace = choice;
  } else {
    namespace = Namespace.open(choice, type);
    const opened = namespace;
    program.defer(() => opened.close());
  }
  program.join(namespace.fd, types[type].flag);
}

function joinUser(program: LaunchProgram, choice: NonNullable<NamespacesOptions['user']>): void {
  if (typeof choice === 'object' && !('uidMap' in choice) && isExisting(choice)) {
    if (!(choice instanceof UserNamespace)) {
      join(program, choice, 'user');
      becomeRoot(program, true);
      return;
    }
    program.join(choice.fd, types.user.flag, { exposed: true });
    becomeRoot(
      program,
      choice.maps.setgroups !== 'deny',
      choice.maps.uidMap.some((range) => range.inside === 0),
    );
    return;
  }
  const own = UserNamespace.create(choice === 'new' ? 'self' : (choice as UserMapping));
  program.defer(() => own.close());
  // Nobody else lives in it, so nobody can look at this process through the child.
  program.join(own.fd, types.user.flag, { exposed: false });
  becomeRoot(
    program,
    own.maps.setgroups !== 'deny',
    own.maps.uidMap.some((range) => range.inside === 0),
  );
}

/** After the join the child has all capabilities in it, and ids that may mean nobody there. */
function becomeRoot(program: LaunchProgram, groups: boolean, mapped = true): void {
  if (!mapped) return;
  program.step('user', 'setresgid', [0, 0, 0], { ignore: ['EINVAL'] });
  if (groups) program.step('user', 'setgroups', [0, null], { ignore: ['EPERM'] });
  program.step('user', 'setresuid', [0, 0, 0], { ignore: ['EINVAL'] });
}
