import { KernelError, type KernelErrorFields } from '@iso/sys';
import { Attributes } from './attribute.js';
import type { Message } from './message.js';
import { align, HEADER, NLM_F, NLMSGERR } from './raw.js';

const EBADMSG = 74;

/**
 * A reply that no kernel writes: cut, or forged.
 *
 * @param what - is wrong with it
 * @param offset - where, in bytes of the datagram
 * @returns the error, `EBADMSG`
 */
export function malformed(what: string, offset: number): KernelError {
  return new KernelError(EBADMSG, {
    syscall: 'recvfrom',
    call: 'netlink reply',
    kernelMessage: what,
    hint: `at byte ${offset}; it is not read any further`,
    info: { offset },
  });
}

/** An error of the kernel's as NLMSG_ERROR and NLMSG_DONE carry it. */
export interface Refusal {
  /** Negative error number, 0 for an acknowledgement. */
  errno: number;
  /** The kernel's own words. */
  message?: string;
  /** Offset in the request of the attribute that it refuses. */
  offset?: number;
  /** Type of an attribute that is missing. */
  missing?: number;
  /** Offset in the request of the attribute in which it is missing. */
  missingIn?: number;
}

/**
 * Reads the body of NLMSG_ERROR or NLMSG_DONE.
 *
 * @param bytes - the datagram
 * @param start - of the body
 * @param end - of the body
 * @param flags - of the message
 * @param echo - whether the request follows the number: in NLMSG_ERROR it does
 * @returns what it says
 * @throws KernelError `EBADMSG`
 */
export function readRefusal(bytes: Buffer, start: number, end: number, flags: number, echo: boolean): Refusal {
  if (end - start < 4) {
    if (!echo) return { errno: 0 };
    throw malformed('an error without a number', start);
  }
  const refusal: Refusal = { errno: bytes.readInt32LE(start) };
  if (refusal.errno > 0) throw malformed(`an error number of ${refusal.errno}`, start);
  if ((flags & NLM_F.ACK_TLVS) === 0) return refusal;
  let from = start + 4;
  if (echo) {
    if (end - from < HEADER) throw malformed('an error without the header of its request', from);
    const length = bytes.readUInt32LE(from);
    from += flags & NLM_F.CAPPED ? HEADER : align(Math.max(length, HEADER));
  }
  if (from > end) throw malformed('an error that ends inside of its request', start);
  const attributes = new Attributes(bytes, from, end);
  while (attributes.next()) {
    if (attributes.type === NLMSGERR.MSG) refusal.message = attributes.string();
    else if (attributes.type === NLMSGERR.OFFS) refusal.offset = attributes.u32();
    else if (attributes.type === NLMSGERR.MISS_TYPE) refusal.missing = attributes.u32();
    else if (attributes.type === NLMSGERR.MISS_NEST) refusal.missingIn = attributes.u32();
  }
  return refusal;
}

/**
 * The error that a refusal is.
 *
 * @param message - the request
 * @param refusal - what the kernel said to it
 * @param more - what to add to `info`
 * @returns with `kernelMessage`, and in `info` the `attribute` (its path of names) and its `offset`
 */
export function refused(message: Message, refusal: Refusal, more: Record<string, unknown> = {}): KernelError {
  const fields: KernelErrorFields = { syscall: 'sendto', call: message.call };
  const info = { ...more };
  let said = refusal.message ?? '';
  if (refusal.offset !== undefined) {
    info.offset = refusal.offset;
    info.attribute = message.pathAt(refusal.offset);
    said += `${said ? ' ' : ''}(attribute ${String(info.attribute)})`;
  }
  if (refusal.missing !== undefined) {
    info.missing = message.missingName(refusal.missing, refusal.missingIn);
    said += `${said ? ' ' : ''}(attribute ${String(info.missing)} is missing)`;
  }
  if (said) fields.kernelMessage = said;
  if (Object.keys(info).length) fields.info = info;
  const hint = hints[refusal.errno];
  if (hint) fields.hint = hint;
  return new KernelError(refusal.errno, fields);
}

/** What the kernel leaves unsaid. */
const hints: Readonly<Record<number, string>> = {
  [-1]: 'it needs CAP_NET_ADMIN in the user namespace that owns the network namespace',
  [-19]: 'no such device in this network namespace',
};
