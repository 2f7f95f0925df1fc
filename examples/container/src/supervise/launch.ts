import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TerminalSize } from '@iso/process';
import type { HeldRecord } from '../state/held.js';
import { Link } from './link.js';

/** What a supervisor is told on its command line, as JSON. */
export interface Assignment {
  home: string;
  id: string;
  /** Whoever starts it wants its output. */
  attach: boolean;
  /** Size of its terminal. */
  terminal?: TerminalSize;
}

/** Number of the supervisor's socket to whoever starts it. */
export const SOCKET_NUMBER = 3;
/** And of the lock that it takes over. */
export const LOCK_NUMBER = 4;

/**
 * Node's flags for a process that waits most of the time: no threads that compile and collect beside it, a small young generation.
 * Every line of Node has these flags.
 */
const light = ['--single-threaded', '--max-semi-space-size=1', '--optimize-for-size', '--expose-gc'];

/**
 * Gives a container to a supervisor: a process of its own, in a session of its own, that runs it and lives as long.
 *
 * @param record - held by this process; no more when this returns
 * @param how - whether its output is wanted
 * @returns the connection to it; it has not started the container yet
 */
export function launchSupervisor(record: HeldRecord, how: Pick<Assignment, 'attach' | 'terminal'>): Link {
  const assignment: Assignment = { home: record.home, id: record.id, ...how };
  const errors = openSync(join(record.directory, 'supervisor.log'), 'a', 0o600);
  try {
    const child = spawn(process.execPath, [...flags(), ...light, entry(), JSON.stringify(assignment)], {
      detached: true,
      cwd: '/',
      stdio: ['ignore', 'ignore', errors, 'pipe', record.lock.number],
    });
    const socket = child.stdio[SOCKET_NUMBER] as Socket;
    child.unref();
    // Where it cannot be started there is a connection that ends.
    child.on('error', () => socket.destroy());
    return new Link(socket);
  } finally {
    closeSync(errors);
    record.lock.close();
  }
}

/** From the sources, which tests use, it needs a loader too. */
function entry(): string {
  const file = import.meta.url.endsWith('.ts') ? './supervisor.ts' : './supervise/supervisor.js';
  return fileURLToPath(new URL(file, import.meta.url));
}

function flags(): string[] {
  return import.meta.url.endsWith('.ts') ? process.execArgv : [];
}
