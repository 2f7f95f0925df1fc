// The process that runs a container nobody sits in front of: started by `launchSupervisor()`, in a session of its own.
import { Socket } from 'node:net';
import { F, Fd, syscall } from '@iso/sys';
import { now } from '../state/document.js';
import { HeldRecord } from '../state/held.js';
import { type Failed, FRAME, send } from './frame.js';
import { type Assignment, LOCK_NUMBER, SOCKET_NUMBER } from './launch.js';
import { supervise } from './supervise.js';

const FD_CLOEXEC = 1;
const NOT_STARTED = 125;
/** Until who started this has been told. */
const PATIENCE_MS = 500;

const assignment = JSON.parse(process.argv[2] as string) as Assignment;
// Programs that it starts have no part in it.
syscall('fcntl', LOCK_NUMBER, F.SETFD, FD_CLOEXEC);
const record = HeldRecord.adopt(assignment.home, assignment.id, Fd.own(LOCK_NUMBER));
const starter = new Socket({ fd: SOCKET_NUMBER });
try {
  await supervise(record, starter, assignment);
} catch (error) {
  // Not of the container, whose failures are told: of its log's file, its socket.
  const message = error instanceof Error ? error.message : String(error);
  record.finish({ status: 'exited', exitCode: NOT_STARTED, error: message, finishedAt: now() });
  send(starter, FRAME.failed, JSON.stringify({ message, exitCode: NOT_STARTED } satisfies Failed));
  starter.destroySoon();
  // What may run goes with this process.
  setTimeout(() => process.exit(1), PATIENCE_MS);
}
