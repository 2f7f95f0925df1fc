import { readFileSync } from 'node:fs';
import { AT, type LaunchProgram, O, type Part, PR } from '@iso/sys';

/**
 * Docker's default capabilities by their numbers, see capabilities(7): CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID,
 * SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, AUDIT_WRITE, SETFCAP. Not its MKNOD: no device cgroup stands behind it here.
 */
const kept: readonly number[] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 29, 31];

/**
 * What a container must not have, whoever it runs as: the capabilities by which its root would take masks, read-only mounts and
 * limits away again, the caller's keys, programs that gain privileges.
 *
 * @param ownUser - it has a user namespace of its own
 * @returns a part of its launch
 */
export function hardening(ownUser: boolean): Part {
  return {
    confine(program) {
      if (ownUser) denyUserNamespaces(program);
      // Without them in the bounding set, exec gives them to nobody, root or not.
      const last = Number(readFileSync('/proc/sys/kernel/cap_last_cap', 'utf8'));
      for (let capability = 0; capability <= last; capability++)
        if (!kept.includes(capability)) program.step('bounding', 'prctl', [PR.CAPBSET_DROP, capability, 0, 0, 0]);
      const KEYCTL_JOIN_SESSION_KEYRING = 1;
      program.step('privileges', 'keyctl', [KEYCTL_JOIN_SESSION_KEYRING, null], {
        text: 'keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)',
        // A kernel without keys.
        ignore: ['ENOSYS'],
      });
      program.step('privileges', 'prctl', [PR.SET_NO_NEW_PRIVS, 1, 0, 0, 0], { text: 'prctl(PR_SET_NO_NEW_PRIVS)' });
    },
  };
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
