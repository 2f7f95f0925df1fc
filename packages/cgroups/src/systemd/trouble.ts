import { CgroupError, E, type Reason } from '../error.js';
import type { Message } from './wire/message.js';

const PROTO = 71;

/** What the names of errors on the bus mean here. */
const meanings: readonly [name: RegExp, errno: number, reason: Reason, hint?: string][] = [
  [
    /\.(AccessDenied|AuthFailed|InteractiveAuthorizationRequired)$/,
    E.ACCES,
    'notDelegated',
    "needs root, or the user's own manager",
  ],
  [/\.(UnitExists|AlreadyExists)$/, E.EXIST, 'exists', 'there is a unit of that name'],
  [/\.(NoSuchUnit|UnknownObject)$/, E.NOENT, 'removed', 'there is no such unit'],
  [/\.(InvalidArgs|PropertyReadOnly|UnknownProperty)$/, E.INVAL, 'invalidValue'],
  [/\.(NoSuchProcess|UnixProcessIdUnknown)$/, E.SRCH, 'noSuchProcess'],
  [/\.(NoReply|Timeout|TimedOut|Disconnected)$/, E.TIMEDOUT, 'busy'],
];

/** An error that came back over the bus. */
export class BusError extends CgroupError {
  /** As the bus names it: `org.freedesktop.systemd1.NoSuchUnit`. */
  readonly busName: string;

  constructor({ errorName = '', body }: Message, method: string) {
    const [, errno = PROTO, reason = 'other', hint] = meanings.find(([name]) => name.test(errorName)) ?? [];
    super(errno, {
      syscall: 'read',
      call: `${method}() of systemd`,
      reason,
      kernelMessage: `${errorName}: ${typeof body[0] === 'string' ? body[0] : ''}`,
      ...(hint ? { hint } : {}),
    });
    this.busName = errorName;
  }
}
