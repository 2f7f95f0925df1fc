import { attempt, errnoName, type Fd, invalid, KernelError } from '@iso/sys';
import { type CapabilityList, type CapabilityMask, formatCapabilities, maskOf } from './name.js';
import { XATTR } from './raw/capability.js';

/** The capabilities of an executable file. */
export interface FileCapabilities {
  /** What an exec of it gives, as far as the bounding set has it. */
  readonly permitted: CapabilityMask;
  /** What it gives of what the process has inheritable. */
  readonly inheritable: CapabilityMask;
  /** Whether all that it gives is in force at once. */
  readonly effective: boolean;
  /** They count in user namespaces only whose root has this user id outside; undefined: wherever the file's own system is. */
  readonly rootid?: number;
}

/** What to give a file. */
export interface FileCapabilitiesOptions {
  readonly permitted?: CapabilityList;
  readonly inheritable?: CapabilityList;
  /** Default is true where `permitted` is given. */
  readonly effective?: boolean;
  /** See {@link FileCapabilities.rootid}. */
  readonly rootid?: number;
}

/** A file: a path, where symbolic links are followed, or a descriptor that is open for reading. */
export type CapableFile = string | Fd;

const ENODATA = 'ENODATA';
const ROOM = 64;

/**
 * Reads the capabilities of a file.
 *
 * @param file - which
 * @returns undefined where it has none
 * @throws KernelError `ENOENT`, `EACCES`, `EINVAL` for a revision that nobody knows
 *
 * @example
 * ```ts root
 * import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
 * import { readFileCapabilities, removeFileCapabilities, writeFileCapabilities } from '@iso/capabilities';
 * const folder = mkdtempSync('/tmp/caps-');
 * writeFileSync(`${folder}/ping`, '');
 * writeFileCapabilities(`${folder}/ping`, { permitted: ['NET_RAW'] });
 * if (readFileCapabilities(`${folder}/ping`)?.permitted !== 0x2000n) throw new Error('not written');
 * removeFileCapabilities(`${folder}/ping`);
 * if (readFileCapabilities(`${folder}/ping`)) throw new Error('not removed');
 * rmSync(folder, { recursive: true });
 * ```
 */
export function readFileCapabilities(file: CapableFile): FileCapabilities | undefined {
  const bytes = Buffer.alloc(ROOM);
  const size =
    typeof file === 'string'
      ? attempt('getxattr', file, XATTR.name, bytes, ROOM)
      : attempt('fgetxattr', file, XATTR.name, bytes, ROOM);
  if (size < 0 && errnoName(size) === ENODATA) return undefined;
  if (size < 0) throw failure('getxattr', size, file);
  return decodeFileCapabilities(bytes.subarray(0, size));
}

/**
 * Gives a file capabilities, in the place of those that it has. Every later write to it takes them away again.
 *
 * @param file - which
 * @param options - what
 * @throws KernelError `EPERM` without CAP_SETFCAP, `ENOTSUP` for a file system without extended attributes
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for names that there are not
 */
export function writeFileCapabilities(file: CapableFile, options: FileCapabilitiesOptions): void {
  const unknown = Object.keys(options).find(
    (name) => !['permitted', 'inheritable', 'effective', 'rootid'].includes(name),
  );
  if (unknown !== undefined) throw invalid(`there is no option ${JSON.stringify(unknown)}`);
  const { permitted, inheritable, rootid } = options;
  const bytes = encodeFileCapabilities({
    permitted: maskOf(permitted ?? []),
    inheritable: maskOf(inheritable ?? []),
    effective: options.effective ?? permitted !== undefined,
    ...(rootid === undefined ? {} : { rootid }),
  });
  const result =
    typeof file === 'string'
      ? attempt('setxattr', file, XATTR.name, bytes, bytes.length, 0)
      : attempt('fsetxattr', file, XATTR.name, bytes, bytes.length, 0);
  if (result < 0) throw failure('setxattr', result, file);
}

/**
 * Takes a file's capabilities away; of a file that has none it does nothing.
 *
 * @param file - which
 * @throws KernelError `EPERM` without CAP_SETFCAP
 */
export function removeFileCapabilities(file: CapableFile): void {
  const result =
    typeof file === 'string' ? attempt('removexattr', file, XATTR.name) : attempt('fremovexattr', file, XATTR.name);
  if (result < 0 && errnoName(result) !== ENODATA) throw failure('removexattr', result, file);
}

/**
 * The extended attribute `security.capability` of capabilities: revision 3 with a `rootid`, else 2.
 *
 * @param capabilities - what
 * @returns its bytes
 */
export function encodeFileCapabilities({ permitted, inheritable, effective, rootid }: FileCapabilities): Buffer {
  if (rootid !== undefined && !(Number.isInteger(rootid) && rootid >= 0 && rootid < 0xffffffff))
    throw invalid(`rootid is not a user id: ${String(rootid)}`);
  const revision = rootid === undefined ? XATTR.REVISION_2 : XATTR.REVISION_3;
  const bytes = Buffer.alloc(XATTR.sizes[revision] as number);
  bytes.writeUInt32LE(revision | (effective ? XATTR.EFFECTIVE : 0), 0);
  for (const [offset, mask] of [
    [4, permitted],
    [8, inheritable],
  ] as const) {
    bytes.writeUInt32LE(Number(mask & 0xffffffffn), offset);
    bytes.writeUInt32LE(Number(mask >> 32n), offset + 8);
  }
  if (rootid !== undefined) bytes.writeUInt32LE(rootid, 20);
  return bytes;
}

/**
 * Capabilities of an extended attribute `security.capability`, of any revision: that of an archive, for example.
 *
 * @param bytes - its value
 * @returns what it says
 * @throws KernelError `EINVAL` where the kernel would not take it
 */
export function decodeFileCapabilities(bytes: Uint8Array): FileCapabilities {
  const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const magic = data.length >= 4 ? data.readUInt32LE(0) : 0;
  const revision = (magic & 0xff000000) >>> 0;
  if (XATTR.sizes[revision] !== data.length)
    throw new KernelError(22, {
      syscall: 'getxattr',
      call: `${XATTR.name} of ${data.length} bytes`,
      hint: `revision 0x${revision.toString(16)} is not known, or has another size`,
    });
  const upper = revision !== XATTR.REVISION_1;
  const mask = (offset: number) =>
    BigInt(data.readUInt32LE(offset)) | (upper ? BigInt(data.readUInt32LE(offset + 8)) << 32n : 0n);
  return {
    permitted: mask(4),
    inheritable: mask(8),
    effective: (magic & XATTR.EFFECTIVE) !== 0,
    ...(revision === XATTR.REVISION_3 ? { rootid: data.readUInt32LE(20) } : {}),
  };
}

/**
 * A file's capabilities as getcap(8) prints them.
 *
 * @param capabilities - what the file has
 * @returns `cap_net_raw=ep`; what has other flags stands apart: `cap_kill=ei cap_chown=ep`
 */
export function formatFileCapabilities({ permitted, inheritable, effective }: FileCapabilities): string {
  const flag = effective ? 'e' : '';
  const groups: [string, CapabilityMask][] = [
    [`${flag}ip`, permitted & inheritable],
    [`${flag}i`, inheritable & ~permitted],
    [`${flag}p`, permitted & ~inheritable],
  ];
  return groups
    .filter(([, mask]) => mask !== 0n)
    .map(([flags, mask]) => `${formatCapabilities(mask)}=${flags}`)
    .join(' ');
}

function failure(syscall: string, errno: number, file: CapableFile): KernelError {
  const path = typeof file === 'string' ? { path: file } : {};
  const name = errnoName(errno);
  const hint =
    name === 'EPERM'
      ? { hint: 'it needs CAP_SETFCAP in the user namespace of the file system, or with a rootid in one below' }
      : {};
  return new KernelError(errno, { syscall, ...path, ...hint });
}
