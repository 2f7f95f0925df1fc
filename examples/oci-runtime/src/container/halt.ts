import type { Child } from '@iso/process';
import {
  addressOf,
  Fd,
  type LaunchProgram,
  MSG,
  type Part,
  POLL,
  SO,
  SOCK,
  SOL,
  socketPair,
  syscall,
  watchFd,
} from '@iso/sys';
import { identityOf, type ProcessIdentity, signal } from './identity.js';

const SIGKILL = 9;

/** What is done while a launch goes on. */
type Onward = (() => Promise<void>) | undefined;

/**
 * A place in a launch where it stands still: namespaces are made, and all that is mounted, but the root is not entered yet. Who made it
 * does meanwhile what is to be done then, and knows by the kernel's word which process it is. With that one's end it ends.
 */
export class Halt implements Part, Disposable {
  readonly #ours: Fd;
  readonly #theirs: Fd;

  constructor() {
    [this.#ours, this.#theirs] = socketPair(SOCK.STREAM);
    const one = Buffer.from(new Uint32Array([1]).buffer);
    syscall('setsockopt', this.#ours, SOL.SOCKET, SO.PASSCRED, one, one.length);
  }

  /**
   * Adds its steps, behind those of the parts before it.
   *
   * @param program - the launch
   */
  confine(program: LaunchProgram): void {
    program.mayBlock();
    const us = Fd.own(syscall('pidfd_open', process.pid, 0));
    program.defer(() => us.close());
    program.step('mount', 'write', [this.#theirs, '.', 1], { text: 'write(it is here)' });
    // A read alone would wait for ever where this process is gone: copies of our end are open in whoever waits with it.
    const events = Buffer.concat([this.#theirs, us].map(readable));
    program.step('mount', 'ppoll', [events, 2, null, null, 0], { text: 'ppoll(until it may go on, this process)' });
    program.step('mount', 'recvfrom', [this.#theirs, program.output(1), 1, MSG.DONTWAIT, null, null], {
      hint: { EAGAIN: 'who makes the container has ended' },
    });
  }

  /**
   * Does something while a launch stands here.
   *
   * @param launch - with this part
   * @param work - what is done, with its process; where that returns a function, it is called when the launch goes on
   * @returns the child, when all that has come to its end
   * @throws what `work` throws, when the process is gone; what the launch throws
   */
  async during(launch: Promise<Child>, work: (init: ProcessIdentity) => Promise<Onward>): Promise<Child> {
    const over = new AbortController();
    launch.catch(() => over.abort());
    try {
      await watchFd(this.#ours, { signal: over.signal });
    } catch (error) {
      if (!over.signal.aborted) throw error;
      return launch;
    }
    const init = identityOf(this.#sender());
    if (!init) return launch;
    try {
      const onward = await work(init);
      syscall('write', this.#ours, '\n', 1);
      const [child] = await Promise.all([launch, onward?.()]);
      return child;
    } catch (error) {
      signal(init, SIGKILL);
      const child = await launch.catch(() => undefined);
      await child?.exited;
      throw error;
    }
  }

  /** Pid of who has sent what is there, as the kernel writes it beside it: see SCM_CREDENTIALS in unix(7). */
  #sender(): number {
    // In memory that stays where it is: struct msghdr, one vector for a byte, and 32 bytes of what comes beside it.
    const memory = Buffer.from(new ArrayBuffer(56 + 16 + 8 + 32));
    const [vector, byte, control] = [56, 72, 80];
    const address = addressOf(memory);
    memory.writeBigUInt64LE(address + BigInt(vector), 16);
    memory.writeBigUInt64LE(1n, 24);
    memory.writeBigUInt64LE(address + BigInt(control), 32);
    memory.writeBigUInt64LE(32n, 40);
    memory.writeBigUInt64LE(address + BigInt(byte), vector);
    memory.writeBigUInt64LE(1n, vector + 8);
    syscall('recvmsg', this.#ours, memory, 0);
    return memory.readInt32LE(control + 16);
  }

  /** Closes both ends. */
  [Symbol.dispose](): void {
    this.#ours.close();
    this.#theirs.close();
  }
}

/** An entry of ppoll(2). */
function readable(fd: Fd): Buffer {
  const entry = Buffer.alloc(8);
  entry.writeInt32LE(fd.number, 0);
  entry.writeInt16LE(POLL.IN, 4);
  return entry;
}
