import { AF, type LaunchProgram, type Slot, SOCK } from '@iso/sys';

const SIOCSIFFLAGS = 0x8914;
const IFF_UP_RUNNING = 1 | 0x40;

/**
 * Adds the steps that bring `lo` of a new network namespace up: it starts down, and 127.0.0.1 unreachable.
 *
 * @param program - the launch
 * @returns slot of the socket, for an errand to close
 */
export function bringLoopbackUp(program: LaunchProgram): Slot {
  const socket = program.step('host', 'socket', [AF.INET, SOCK.DGRAM | SOCK.CLOEXEC, 0]);
  program.step('host', 'ioctl', [socket, SIOCSIFFLAGS, request], {
    text: 'ioctl(socket, SIOCSIFFLAGS, {lo, IFF_UP|IFF_RUNNING})',
  });
  return socket;
}

/** struct ifreq. */
const request = Buffer.alloc(40);
request.write('lo', 0, 'latin1');
request.writeInt16LE(IFF_UP_RUNNING, 16);
