import { CLONE, invalid, type LaunchProgram, type Part } from '@iso/sys';
import { bringLoopbackUp } from './loopback.js';
import { Namespace } from './namespace.js';
import type { NamespaceSource } from './source.js';
import { setTimeOffsets, type TimeOffsets } from './time.js';
import { type NamespaceType, types } from './type.js';
import { type UserMapping, UserNamespace } from './user.js';
import { type HostNames, setNames } from './uts.js';

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
  uts?: Choice | HostNames;
  /** Offsets in seconds make it a new one, see time_namespaces(7). */
  time?: Choice | TimeOffsets;
  /** Maps make it a new one, see {@link UserMapping}; `new` means `self`. The caller's own is left out: nobody can join it again. */
  user?: Choice | UserMapping;
}

/**
 * Confines a launch by namespaces. Creating any but a user namespace needs CAP_SYS_ADMIN, or `user` in the same launch.
 *
 * @param options - which
 * @returns a part for a launch
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for a type that there is not, and for what is no choice
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
  check(options);
  return { confine: (program) => confine(program, options) };
}

/** What else a choice may have: names, clocks, maps. */
const settings: Partial<Record<NamespaceType, readonly string[]>> = {
  uts: ['hostname', 'domainname'],
  time: ['monotonic', 'boottime'],
  user: ['uidMap', 'gidMap', 'setgroups'],
};

/** A namespace that is misspelt would be left out silently, and the process share the caller's. */
function check(options: NamespacesOptions): void {
  for (const [name, choice] of Object.entries(options) as [NamespaceType, unknown][]) {
    if (!Object.hasOwn(types, name))
      throw invalid(`no type of namespace: ${JSON.stringify(name)}, there are ${Object.keys(types).join(', ')}`);
    if (choice === undefined || choice === 'new' || choice === 'host') continue;
    if (name === 'user' && typeof choice === 'string') continue;
    if (typeof choice !== 'object' || choice === null)
      throw invalid(`${name}: not new, host, a Namespace, { pid }, { pidfd }, { path } or { fd }: ${String(choice)}`);
    if (isExisting(choice)) continue;
    const unknown = Object.keys(choice).find((key) => !settings[name]?.includes(key));
    if (unknown !== undefined || !settings[name])
      throw invalid(
        `${name} has no option ${JSON.stringify(unknown)}${settings[name] ? `, there are ${settings[name].join(', ')}` : ''}`,
      );
  }
}

function confine(program: LaunchProgram, options: NamespacesOptions): void {
  if (options.user !== undefined && options.user !== 'host') joinUser(program, options.user);
  for (const type of ['mount', 'pid', 'net', 'uts', 'ipc', 'cgroup', 'time'] as const) {
    const choice = options[type];
    if (choice === undefined || choice === 'host') continue;
    if (choice !== 'new' && isExisting(choice)) join(program, choice, type);
    // Where it begins is the cgroup that its maker is in, and into those of version 1 the child itself moves first.
    else if (type === 'cgroup')
      program.step('host', 'unshare', [CLONE.NEWCGROUP], { text: 'unshare(CLONE_NEWCGROUP)' });
    else {
      program.unshare(types[type].flag);
      if (type === 'net') bringLoopbackUp(program);
      if (type === 'uts' && typeof choice === 'object') setNames(program, choice as HostNames);
      if (type === 'time' && typeof choice === 'object') setTimeOffsets(program, choice as TimeOffsets);
    }
  }
}

function isExisting(choice: object): choice is Namespace | NamespaceSource {
  return choice instanceof Namespace || 'pid' in choice || 'path' in choice || 'pidfd' in choice || 'fd' in choice;
}

function existing(program: LaunchProgram, choice: Namespace | NamespaceSource, type: NamespaceType): Namespace {
  if (choice instanceof Namespace) {
    if (choice.type !== type) throw invalid(`it is a ${choice.type} namespace, not ${type}`);
    return choice;
  }
  const opened = Namespace.open(choice, type);
  program.defer(() => opened.close());
  return opened;
}

function join(program: LaunchProgram, choice: Namespace | NamespaceSource, type: NamespaceType): void {
  program.join(existing(program, choice, type).fd, types[type].flag);
}

function joinUser(program: LaunchProgram, choice: NonNullable<NamespacesOptions['user']>): void {
  let namespace: Namespace;
  // Where nobody else lives, nobody can look at this process through the child.
  let exposed = true;
  if (typeof choice === 'object' && !('uidMap' in choice) && isExisting(choice)) {
    namespace = existing(program, choice, 'user');
    // setns(2) refuses the own one with EINVAL.
    using own = Namespace.self('user');
    if (namespace.equals(own)) return;
  } else {
    const made = UserNamespace.create(choice === 'new' ? 'self' : (choice as UserMapping));
    program.defer(() => made.close());
    namespace = made;
    exposed = false;
  }
  program.join(namespace.fd, types.user.flag, { exposed });
  becomeRoot(program, namespace instanceof UserNamespace ? namespace : undefined);
}

/** After the join the child has all capabilities in it, and ids that may mean nobody there. */
function becomeRoot(program: LaunchProgram, known: UserNamespace | undefined): void {
  if (program.ending === 'process') requireIds(program);
  if (known && !known.maps.uidMap.some((range) => range.inside === 0)) return;
  // Who may drop the caller's groups does so here: inside that may be denied, and its root would have them by its processes.
  program.step('birth', 'setgroups', [0, null], { ignore: ['EPERM'] });
  program.step('user', 'setresgid', [0, 0, 0], { ignore: ['EINVAL'] });
  if (known?.maps.setgroups !== 'deny') program.step('user', 'setgroups', [0, null], { ignore: ['EPERM'] });
  program.step('user', 'setresuid', [0, 0, 0], { ignore: ['EINVAL'] });
}

/**
 * A program whose ids are not mapped is still the caller to the files outside, root perhaps, and at the mercy of who has
 * CAP_SYS_PTRACE inside. Such ids read as the overflow id, which the kernel refuses to set where it is not mapped either.
 */
function requireIds(program: LaunchProgram): void {
  for (const [get, set, what] of [
    ['getgid', 'setresgid', 'gid'],
    ['getuid', 'setresuid', 'uid'],
  ] as const) {
    const id = program.step('privileges', get, []);
    program.step('privileges', set, [id, id, id], {
      hint: `the user namespace maps neither 0 nor the caller's ${what}: give the process a ${what} that it maps`,
    });
  }
}
