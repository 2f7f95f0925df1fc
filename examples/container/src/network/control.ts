import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { createConnection, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { Fd } from '@iso/sys';
import { UsageError } from '../options.js';

/** What another command asks of the one that runs a container. */
export type ControlRequest =
  | { verb: 'connect'; network: string; ip?: string; ip6?: string; aliases: readonly string[] }
  | { verb: 'disconnect'; network: string };

type ControlAnswer = { done: true } | { error: string };

const NAME = 'control';
const LONGEST = 65536;

/** Paths of sockets are short; that of a directory's descriptor always is. */
function within(directory: Fd): string {
  return `/proc/self/fd/${directory.number}/${NAME}`;
}

/**
 * Answers other commands of this user, by a socket in the record of the container.
 *
 * @param path - directory of the record
 * @param act - does what is asked; what it throws is told
 * @returns to be closed
 */
export async function serveControl(path: string, act: (request: ControlRequest) => Promise<void>): Promise<Server> {
  using directory = Fd.open(path, { directory: true });
  let last: Promise<unknown> = Promise.resolve();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => socket.destroy());
    let asked = '';
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      asked += chunk;
      if (asked.length > LONGEST) socket.destroy();
    });
    socket.on('end', () => {
      const answer = (value: ControlAnswer) => socket.end(JSON.stringify(value));
      // One after the other.
      last = last
        .then(() => act(JSON.parse(asked) as ControlRequest))
        .then(
          () => answer({ done: true }),
          (error: Error) => answer({ error: error.message }),
        );
    });
  });
  // Of a run before: it cannot be removed by this path when that is over.
  rmSync(join(path, NAME), { force: true });
  server.listen(within(directory));
  await once(server, 'listening');
  return server;
}

/**
 * Asks the command that runs a container.
 *
 * @param path - directory of its record
 * @param request - what it is to do
 * @throws {@link UsageError} with its words, or where it does not answer
 */
export async function askControl(path: string, request: ControlRequest): Promise<void> {
  using directory = Fd.open(path, { directory: true });
  const socket = createConnection({ path: within(directory), allowHalfOpen: true });
  try {
    await once(socket, 'connect');
  } catch {
    throw new UsageError(
      'the container is in no network that could be changed: it runs with --network none, host or container:',
    );
  }
  socket.end(JSON.stringify(request));
  const answer = JSON.parse((await text(socket)) || '{"error":"it has ended meanwhile"}') as ControlAnswer;
  if ('error' in answer) throw new UsageError(answer.error);
}
