import { attempt, CLONE, type Fd, UnsupportedError } from '@iso/sys';
import { LSMT_ROOT, NS_GET_MNTNS_ID, NS_GET_NSTYPE, STATMOUNT } from '../raw/flags.js';
import { mntIdReq, readStatMount, STATMOUNT_SIZE, type StatMount } from '../raw/structs.js';
import { call, failure } from './call.js';

const HINTS = { EPERM: 'another mount namespace is seen by who has CAP_SYS_ADMIN in its user namespace' };
const OVERFLOW = -75;
const ENOTTY = -25;
const LARGEST = 1 << 20;

/**
 * statmount(2): what the kernel knows of a mount.
 *
 * @param mount - unique id
 * @param options - `mask` of STATMOUNT bits, default all; `namespace`: id of another mount namespace (Linux 6.11)
 * @returns its members
 * @throws KernelError `ENOENT` where no such mount is reachable, `EPERM`; UnsupportedError before Linux 6.8
 */
export function statmount(mount: bigint, options: { mask?: number; namespace?: bigint } = {}): StatMount {
  const request = mntIdReq(mount, BigInt(options.mask ?? EVERYTHING), options.namespace ?? 0n);
  // The strings have no bound but that of the file system's options.
  for (let bytes = buffer; ; bytes = Buffer.alloc(bytes.length * 4)) {
    const args = [request, bytes, bytes.length, 0];
    const result = attempt('statmount', ...args);
    if (result >= 0) return readStatMount(bytes);
    if (result !== OVERFLOW || bytes.length > LARGEST)
      throw failure('statmount', args, result, { since: '6.8', hints: HINTS });
  }
}

/** Shared by all calls, which are over before another starts: most mounts fit. */
const buffer = Buffer.alloc(STATMOUNT_SIZE + 8192);
const EVERYTHING = Object.values(STATMOUNT).reduce((mask, bit) => mask | bit, 0);

/**
 * listmount(2): the mounts below another, those below these too.
 *
 * @param options - `mount`: unique id, default everything below the caller's root; `namespace`: id of another mount namespace
 * @returns unique ids in the order in which they were made
 * @throws KernelError `ENOENT`, `EPERM`; UnsupportedError before Linux 6.8
 */
export function listmount(options: { mount?: bigint; namespace?: bigint } = {}): bigint[] {
  const ids: bigint[] = [];
  const page = Buffer.alloc(8 * PAGE);
  for (;;) {
    const request = mntIdReq(options.mount ?? LSMT_ROOT, ids.at(-1) ?? 0n, options.namespace ?? 0n);
    const count = call('listmount', [request, page, PAGE, 0], { since: '6.8', hints: HINTS });
    for (let i = 0; i < count; i++) ids.push(page.readBigUInt64LE(8 * i));
    if (count < PAGE) return ids;
  }
}

const PAGE = 512;

/**
 * The 64-bit id of a mount namespace, by which {@link statmount} and {@link listmount} know it.
 *
 * @param namespace - its descriptor, for example of /proc/PID/ns/mnt
 * @returns its id
 * @throws KernelError `EINVAL` or `ENOTTY` for another descriptor; UnsupportedError before Linux 6.8
 */
export function mountNamespaceId(namespace: Fd): bigint {
  const id = Buffer.alloc(8);
  const args = [namespace, NS_GET_MNTNS_ID, id];
  const result = attempt('ioctl', ...args);
  if (result === ENOTTY && attempt('ioctl', namespace, NS_GET_NSTYPE) === CLONE.NEWNS)
    throw new UnsupportedError('NS_GET_MNTNS_ID', 'the mount namespace does not know the ioctl', { since: '6.8' });
  if (result < 0) throw failure('ioctl', args, result, { since: '6.8' });
  return id.readBigUInt64LE(0);
}
