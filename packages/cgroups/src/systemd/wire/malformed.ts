import { CgroupError } from '../../error.js';

const PROTO = 71;

/** What came over the bus is no message of the D-Bus specification. */
export function malformed(what: string): CgroupError {
  return new CgroupError(PROTO, {
    syscall: 'read',
    call: 'reading a message of D-Bus',
    reason: 'other',
    hint: what,
  });
}
