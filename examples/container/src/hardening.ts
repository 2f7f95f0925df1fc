import { capabilities, capabilitiesOf, capabilityNames, dockerCapabilities, maskOf, namesOf } from '@iso/capabilities';
import { defaultProfile, Profile, seccomp } from '@iso/seccomp';
import { AT, type LaunchProgram, O, type Part } from '@iso/sys';
import { UsageError } from './options.js';

/** Docker's default capabilities but MKNOD: not every container has a device cgroup behind it. */
const kept: readonly string[] = dockerCapabilities.filter((name) => name !== 'MKNOD');

/** Which system calls a container may make: docker's default profile, another one, or all of them. */
export type SeccompChoice = 'default' | 'unconfined' | Profile;

/** What is asked for of the privileges of a container, by docker's names. */
export interface HardeningOptions {
  /** Capabilities besides the usual ones, with `CAP_` or without; `ALL` for all that there are. */
  capAdd?: readonly string[];
  /** Capabilities to go without; `ALL` for all but those of `capAdd`. */
  capDrop?: readonly string[];
  /**
   * Every capability and device, every system call, nothing masked or read-only, set-uid programs: no boundary any more, but for
   * who has a user namespace of its own.
   */
  privileged?: boolean;
  /** Whether no exec gives a process more than it has. Default true, but for `privileged`. */
  noNewPrivileges?: boolean;
  /** Which system calls it may make, default docker's profile; of `privileged` all. */
  seccomp?: SeccompChoice;
  /** `unconfined`: nothing of /proc and /sys is masked or read-only. */
  systemPaths?: 'unconfined';
}

/** What the processes of a container may do, its first one and those of exec. As JSON it can be kept. */
export interface Privileges {
  /** All that an exec can give: the bounding set. */
  readonly capabilities: readonly string[];
  readonly noNewPrivileges: boolean;
  readonly seccomp: SeccompChoice;
}

/**
 * What a container may do.
 *
 * @param options - as the user has them
 * @param ownUser - it has a user namespace of its own, whose capabilities are all there
 * @returns its privileges
 * @throws {@link UsageError} for capabilities that there are not, or that this process does not have to give
 */
export function privilegesOf(options: HardeningOptions, ownUser: boolean): Privileges {
  const { capAdd = [], capDrop = [], privileged = false } = options;
  const seccomp = options.seccomp ?? (privileged ? 'unconfined' : 'default');
  const noNewPrivileges = options.noNewPrivileges ?? !privileged;
  if (!privileged && capAdd.length === 0 && capDrop.length === 0)
    return { capabilities: kept, noNewPrivileges, seccomp };
  const [adds, drops] = [parseCapabilities('--cap-add', capAdd), parseCapabilities('--cap-drop', capDrop)];
  return { capabilities: privileged ? everything(ownUser) : tweak(adds, drops, ownUser), noNewPrivileges, seccomp };
}

/** Docker's rules: what is added is there although it is dropped, but for all that are. */
function tweak(adds: readonly string[], drops: readonly string[], ownUser: boolean): readonly string[] {
  const all = everything(ownUser);
  if (adds.includes('ALL')) return all.filter((name) => !drops.includes(name));
  const lacking = adds.find((name) => !all.includes(name));
  if (lacking !== undefined)
    throw new UsageError(
      `--cap-add ${lacking}: this process does not have it to give, or this kernel does not know it`,
    );
  const base = drops.includes('ALL') ? [] : kept.filter((name) => !drops.includes(name));
  return [...new Set([...base, ...adds])];
}

function everything(ownUser: boolean): string[] {
  return namesOf(ownUser ? maskOf('ALL') : capabilitiesOf().permitted & capabilitiesOf().bounding);
}

function parseCapabilities(option: string, names: readonly string[]): string[] {
  return names.map((name) => {
    const bare = name.toUpperCase().replace(/^CAP_/, '');
    if (bare === 'ALL') return bare;
    if (!(capabilityNames as readonly string[]).includes(bare))
      throw new UsageError(`${option}: no capability is called ${JSON.stringify(name)}`);
    return bare;
  });
}

/**
 * What a container must not have, whoever it runs as: the capabilities by which its root would take masks, read-only mounts and
 * limits away again, the caller's keys, programs that gain privileges, system calls that reach beyond it.
 *
 * @param privileges - what its processes may do
 * @param options - `uid`: whose it will be; `sealUser`: it gets a user namespace of its own, below which there are to be no others
 * @returns parts of a launch
 * @throws {@link UsageError} for a filter that would wait for somebody's answers
 */
export function hardening(privileges: Privileges, options: { uid: number; sealUser?: boolean }): Part[] {
  const own: Part = {
    confine(program) {
      if (options.sealUser) denyUserNamespaces(program);
      const KEYCTL_JOIN_SESSION_KEYRING = 1;
      program.step('privileges', 'keyctl', [KEYCTL_JOIN_SESSION_KEYRING, null], {
        text: 'keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)',
        // A kernel without keys.
        ignore: ['ENOSYS'],
      });
    },
  };
  const { capabilities: bounding, noNewPrivileges } = privileges;
  // Without no_new_privs only its holder may install a filter. The exec takes it from who is not root.
  const needs = !noNewPrivileges && privileges.seccomp !== 'unconfined' && options.uid !== 0;
  const last = needs ? { permitted: ['SYS_ADMIN'] } : {};
  // Without the others in the bounding set, exec gives them to nobody, root or not.
  return [own, capabilities({ bounding, noNewPrivileges, ...last }), ...filtering(privileges)];
}

/**
 * Parses docker's `--security-opt`.
 *
 * @param texts - each `seccomp=unconfined`, `seccomp=builtin`, `seccomp=FILE`, `no-new-privileges[=false]` or
 * `systempaths=unconfined`, of which the last one of a kind counts
 * @returns what they ask for
 * @throws {@link UsageError} for anything else, and for a file that is no profile
 */
export function parseSecurityOptions(
  texts: readonly string[],
): Pick<HardeningOptions, 'seccomp' | 'noNewPrivileges' | 'systemPaths'> {
  const options: ReturnType<typeof parseSecurityOptions> = {};
  for (const text of texts) {
    const [key, value] = text.split(/[=:](.*)/s);
    if (key === 'no-new-privileges' && (value === undefined || value === 'true' || value === 'false'))
      options.noNewPrivileges = value !== 'false';
    else if (key === 'systempaths' && value === 'unconfined') options.systemPaths = value;
    else if (key === 'seccomp' && value)
      options.seccomp = value === 'unconfined' ? value : value === 'builtin' ? 'default' : read(value);
    else
      throw new UsageError(
        `not a security option: ${JSON.stringify(text)}, there are seccomp=unconfined, seccomp=builtin, seccomp=FILE, no-new-privileges, systempaths=unconfined`,
      );
  }
  return options;
}

function read(file: string): Profile {
  try {
    return Profile.read(file);
  } catch (error) {
    throw new UsageError(`seccomp=${file}: ${(error as Error).message}`, { cause: error });
  }
}

/** The one that nearly all have is compiled once. */
let usual: Part | undefined;

/** What a profile allows depends on capabilities: docker's lets mount who has SYS_ADMIN. */
function filtering({ seccomp: profile, capabilities: held, noNewPrivileges }: Privileges): Part[] {
  if (profile === 'unconfined') return [];
  if (profile === 'default' && held === kept && noNewPrivileges)
    return [(usual ??= seccomp(defaultProfile.filter({ capabilities: kept })))];
  const chosen = profile === 'default' ? defaultProfile : profile;
  const filter = chosen.filter({ capabilities: held });
  if (filter.actions.includes('notify')) throw new UsageError('the seccomp profile notifies, and nobody would answer');
  return [seccomp(filter, { flags: chosen.flags, noNewPrivileges })];
}

/**
 * In a further user namespace its root would have all capabilities again: enough to mount its own cgroup, whose limits belong to an
 * id that it is mapped to. This limit is the user namespace's own, and read-only to who has no CAP_SYS_RESOURCE in it.
 */
function denyUserNamespaces(program: LaunchProgram): void {
  const file = program.step('host', 'openat', [
    AT.FDCWD,
    '/proc/sys/user/max_user_namespaces',
    O.WRONLY | O.CLOEXEC,
    0,
  ]);
  program.step('host', 'write', [file, '0', 1], { text: 'write(max_user_namespaces, "0")' });
}
