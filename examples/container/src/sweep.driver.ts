// Starts containers for the fault sweep, one for each line of standard input, and says what became of each: as JSON, a line each.
// While strace looks on, call number `of` of one system call fails in every child; a case moves its own calls there by so
// many harmless ones of the same kind before them.
import { createInterface } from 'node:readline';
import { KernelError, LaunchProgram, type SyscallName } from '@iso/sys';
import { difference, ledger } from '@iso/sys/testing';
import type { ContainerOptions } from './assemble.js';
import { run } from './container.js';

/** One start. */
export interface Case {
  syscall: SyscallName;
  /** How many calls that do nothing come first. */
  before: number;
  options: ContainerOptions;
}

/** What became of it. */
export interface Outcome {
  /** What the container printed, where it started. */
  view?: string;
  error?: { name: string; code: string; syscall: string; phase: string | undefined; message: string };
  /** What is there that was not before, and the other way round. */
  left: string[];
}

let filler: Case | undefined;
const filled = new WeakSet<LaunchProgram>();
const { step } = LaunchProgram.prototype;
LaunchProgram.prototype.step = function (...args) {
  if (filler && this.ending === 'process' && !filled.has(this)) {
    filled.add(this);
    // No address below the first page is anybody's, and no descriptor has this number.
    for (let i = 0; i < filler.before; i++)
      step.call(this, 'birth', filler.syscall, [-1, 1, 1, 1, 1, 1], { ignore: ['*'] });
  }
  return step.apply(this, args);
};

async function start(options: ContainerOptions): Promise<Pick<Outcome, 'view' | 'error'>> {
  try {
    const box = await run(options);
    let view = '';
    for await (const chunk of box.child.stdout ?? []) view += chunk;
    const { code, signal } = await box.exited;
    return { view: `${view}exit ${code ?? signal}\n` };
  } catch (error) {
    if (!KernelError.is(error)) throw error;
    const { name, code, syscall, message } = error;
    return { error: { name, code, syscall, phase: error.step?.phase, message } };
  }
}

// What is there once and for all.
await start({ root: '/', command: ['true'], pidsLimit: 10, stdio: 'pipe' });
process.stdout.write('ready\n');
for await (const line of createInterface({ input: process.stdin })) {
  filler = JSON.parse(line) as Case;
  const before = ledger();
  const outcome: Outcome = { ...(await start(filler.options)), left: [] };
  outcome.left = difference(before, ledger());
  for (let i = 0; outcome.left.length > 0 && i < 20; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    outcome.left = difference(before, ledger());
  }
  process.stdout.write(`${JSON.stringify(outcome)}\n`);
}
