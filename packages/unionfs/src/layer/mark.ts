import { check, ERRNO, tryMknod, tryUnlink } from '../file/call.js';
import { dropXattrs, setXattr, throughProc } from '../file/xattr.js';
import { opaqueName, overlayPrefix, type WhiteoutFormat, whiteoutName } from './whiteout.js';

const S_IFCHR = 0o020000;
const S_IFREG = 0o100000;
const OPAQUE_HINT =
  'trusted.* attributes need CAP_SYS_ADMIN outside of user namespaces: use the format userxattr there';

/**
 * Writes down in a layer that a name is gone.
 *
 * @param directory - descriptor
 * @param name - which nothing in the layer has
 * @param format - of the layer
 */
export function makeWhiteout(directory: number, name: Buffer, format: WhiteoutFormat): void {
  if (format === 'aufs') makeFile(directory, whiteoutName(name));
  else check(tryMknod(directory, name, S_IFCHR, 0), 'mknodat', name, 'whiteouts in a user namespace need Linux 5.8');
}

/**
 * Writes down that a directory of a layer hides all that is below it. On the root of a layer unions do not look at this mark: there it
 * waits for the layers below to be known, and becomes whiteouts of what they hold.
 *
 * @param fd - the directory
 * @param format - of the layer
 */
export function makeOpaque(fd: number, format: WhiteoutFormat): void {
  if (format === 'aufs') makeFile(fd, opaqueName);
  else setXattr(throughProc(fd), `${overlayPrefix(format)}opaque`, Buffer.from('y'), OPAQUE_HINT);
}

/** Takes the mark of {@link makeOpaque} away. */
export function dropOpaque(fd: number, format: WhiteoutFormat): void {
  if (format === 'aufs') check(tryUnlink(fd, opaqueName), 'unlinkat', opaqueName);
  else dropXattrs(throughProc(fd), (name) => name !== `${overlayPrefix(format)}opaque`);
}

/** Those of aufs are files; an earlier archive may have made it. */
function makeFile(directory: number, name: Buffer): void {
  const made = tryMknod(directory, name, S_IFREG | 0o444, 0);
  if (made !== -ERRNO.EEXIST) check(made, 'mknodat', name);
}
