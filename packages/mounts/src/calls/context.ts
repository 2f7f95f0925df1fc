import { AT, Fd } from '@iso/sys';
import { FSCONFIG, FSOPEN_CLOEXEC, FSPICK } from '../raw/flags.js';
import { call } from './call.js';

/**
 * fsopen(2): a context in which a new file system is configured.
 *
 * @param type - the file system
 * @returns the context's descriptor
 * @throws KernelError `ENODEV` for an unknown type, `EPERM`; UnsupportedError before Linux 5.2
 */
export function fsopen(type: string): Fd {
  const hints = { ENODEV: `the kernel has no file system ${type}, or its module is not loaded` };
  return Fd.own(call('fsopen', [type, FSOPEN_CLOEXEC], { since: '5.2', hints }));
}

/**
 * fspick(2): a context in which a mounted file system is reconfigured.
 *
 * @param at - descriptor of a directory, or of the mount itself with an empty path and FSPICK.EMPTY_PATH; null for the working directory
 * @param path - of the mount's root
 * @param flags - FSPICK bits
 * @returns the context's descriptor
 * @throws KernelError `EINVAL` where the path is no root of a mount, `ENOENT`, `EPERM`
 */
export function fspick(at: Fd | null, path: string, flags: number = FSPICK.CLOEXEC): Fd {
  return Fd.own(call('fspick', [at ?? AT.FDCWD, path, flags | FSPICK.CLOEXEC], { path, since: '5.2' }));
}

/** A parameter of a file system: text, a flag that is there, bytes, or an open file. */
export type Parameter = string | true | Uint8Array | Fd;

/**
 * fsconfig(2): one parameter of a context.
 *
 * @param context - of {@link fsopen} or {@link fspick}
 * @param key - the parameter's name
 * @param value - its value
 * @throws KernelError `EINVAL` with the kernel's own words in `kernelMessage`, `EOPNOTSUPP`, `EPERM`
 */
export function fsconfig(context: Fd, key: string, value: Parameter): void {
  const about = { since: '5.2', context, path: key };
  if (value === true) call('fsconfig', [context, FSCONFIG.SET_FLAG, key, null, 0], about);
  else if (typeof value === 'string') call('fsconfig', [context, FSCONFIG.SET_STRING, key, value, 0], about);
  else if (value instanceof Fd) call('fsconfig', [context, FSCONFIG.SET_FD, key, null, value.number], about);
  else call('fsconfig', [context, FSCONFIG.SET_BINARY, key, value, value.length], about);
}

/**
 * fsconfig(2) with a command: creates the superblock of a new file system, or reconfigures that of a picked one.
 *
 * @param context - of {@link fsopen} or {@link fspick}
 * @param command - `CMD_CREATE`; `CMD_CREATE_EXCL` refuses a superblock that exists (Linux 6.6); `CMD_RECONFIGURE`
 * @throws KernelError with the kernel's own words in `kernelMessage`
 */
export function fscommand(context: Fd, command: 'CMD_CREATE' | 'CMD_CREATE_EXCL' | 'CMD_RECONFIGURE'): void {
  call('fsconfig', [context, FSCONFIG[command], null, null, 0], { since: '5.2', context });
}

/**
 * fsmount(2): a mount of a created file system, attached nowhere.
 *
 * @param context - after {@link fscommand} `CMD_CREATE`
 * @param attributes - MOUNT_ATTR bits
 * @returns the mount's descriptor; closing it unmounts what was not attached
 * @throws KernelError `EPERM` for proc and sysfs in a user namespace that sees no full one, `EBUSY`
 */
export function fsmount(context: Fd, attributes = 0): Fd {
  return Fd.own(call('fsmount', [context, FSOPEN_CLOEXEC, attributes], { since: '5.2', context }));
}
