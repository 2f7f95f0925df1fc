import { O } from '../raw/flags.js';
import type { Phase } from './phase.js';
import type { LaunchProgram } from './program.js';
import type { Slot } from './step.js';

const EFD_NONBLOCK = 0x800;

/**
 * Lets the child write the result of a step into memory that a later step reads: the number of a descriptor into a structure, say. An
 * event counter reads as what it was made with. One that was made with 0 does not read at all: a 0 has to stand there already.
 *
 * @param program - the launch of a process: an errand's descriptors are this process's
 * @param phase - where the steps belong
 * @param value - slot of the result, 32 bits of it
 * @param address - of 8 bytes, which stay until the launch is over
 * @param what - what it is, for `explain()`
 *
 * @example
 * ```ts
 * import { addressOf, LaunchProgram, launch, reap, storeResult, StringArray } from '@iso/sys';
 * const bytes = Buffer.from(new ArrayBuffer(8));
 * const program = new LaunchProgram();
 * const group = program.step('host', 'getpgid', [0]);
 * storeResult(program, 'host', group, addressOf(bytes), 'its group');
 * program.step('exec', 'execve', ['/bin/true', new StringArray(['true']), new StringArray([])]);
 * using pidfd = launch(program).pidfd;
 * reap(pidfd, { block: true });
 * if (bytes.readInt32LE(0) !== Number(group.value)) throw new Error('not its group');
 * ```
 */
export function storeResult(program: LaunchProgram, phase: Phase, value: Slot, address: bigint, what: string): void {
  const counter = program.step(phase, 'eventfd2', [value, EFD_NONBLOCK | O.CLOEXEC]);
  program.step(phase, 'read', [counter, address, 8], { ignore: ['EAGAIN'], text: `read(eventfd, ${what})` });
  program.step(phase, 'close', [counter]);
}
