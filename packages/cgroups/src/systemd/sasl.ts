import type { Socket } from 'node:net';
import { KernelError } from '@iso/sys';
import { CgroupError, E } from '../error.js';

const LONGEST_LINE = 4096;

/**
 * The handshake of D-Bus by EXTERNAL: no name is sent, because the kernel tells the other side who this is, in its own numbers.
 *
 * @param socket - that is connecting
 * @returns what came after the handshake
 * @throws KernelError of the socket; CgroupError `notDelegated` where the other side refuses
 */
export async function authenticate(socket: Socket): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    const end = (settle: () => void) => {
      socket.off('connect', begin).off('data', take).off('error', failed).off('close', lost);
      // Until somebody listens again nothing may get lost.
      socket.pause();
      settle();
    };
    // All in one: systemd's server forgets a message that it reads together with BEGIN, until something else comes.
    const begin = () => socket.write('\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n');
    const take = (bytes: Buffer) => {
      received = Buffer.concat([received, bytes]);
      for (;;) {
        const at = received.indexOf('\r\n');
        if (at < 0 && received.length > LONGEST_LINE) return end(() => reject(refused('an endless line')));
        if (at < 0) return;
        const line = received.toString('latin1', 0, at);
        received = received.subarray(at + 2);
        if (/^OK [0-9a-f]{32}$/i.test(line)) return end(() => resolve(received));
        if (line !== 'DATA') return end(() => reject(refused(line)));
      }
    };
    const failed = (error: NodeJS.ErrnoException) =>
      end(() => reject(new KernelError(error.errno ?? E.INVAL, { syscall: 'connect', cause: error })));
    const lost = () => end(() => reject(refused('the connection was closed')));
    socket.on('connect', begin).on('data', take).on('error', failed).on('close', lost);
  });
}

function refused(line: string): CgroupError {
  return new CgroupError(E.ACCES, {
    syscall: 'connect',
    call: 'the handshake of D-Bus',
    reason: 'notDelegated',
    kernelMessage: line,
    hint: 'the other side does not take this user',
  });
}
