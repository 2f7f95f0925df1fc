import { KernelError } from '../error.js';
import type { Fd } from '../fd.js';
import type { Compiled } from '../launcher/compile.js';
import { LaunchProgram } from '../launcher/program.js';
import type { Step } from '../launcher/step.js';
import { FRAME, type Table, writeTable } from '../launcher/table.js';
import { CLONE } from '../raw/flags.js';
import { layouts } from '../raw/layouts.js';
import { syscallNumber } from '../raw/numbers.js';
import { addTo, interestIn, linux } from './call.js';
import type { Waiter } from './poller.js';

/**
 * A thread waits that only walks a table of system calls: it takes an event from the epoll, writes it to the pipe, and waits for
 * the next. When the pipe closes, with the worker or before, it closes its own end and the epoll, and is gone.
 *
 * @param epoll - to wait for; the thread's
 * @param far - its end of the pipe
 */
export function waitInThread(epoll: Fd, far: Fd): Waiter {
  const table = writeTable(loop(epoll, far));
  const { arena } = table;
  // The kernel clears it when the thread has gone.
  const thread = arena.allocate(8);
  start(table, thread);
  const release = () => {
    if (arena.int(thread) === 0) arena.release();
    else setTimeout(release, 1).unref();
  };
  return { release };
}

function start({ arena, frame }: Table, thread: number): void {
  const flags = CLONE.VM | CLONE.FS | CLONE.FILES | CLONE.SIGHAND | CLONE.THREAD | CLONE.SYSVSEM | CLONE.CHILD_CLEARTID;
  arena.set(frame, syscallNumber('clone'));
  // The last two, the thread's id and its storage, change places between architectures.
  const last = process.arch === 'x64' ? [thread, 0] : [0, thread];
  for (const [i, value] of [flags, 0, 0, ...last].entries()) arena.set(frame + FRAME.args + 8 * i, value);
  arena.set(thread, 1);
  const ignore = () => {};
  const result = linux.launch({ frame, flags, steps: [], fail: ignore, reach: ignore, pidfd: ignore });
  if (result < 0) throw new KernelError(result, { syscall: 'clone', hint: 'a limit on threads was reached' });
}

/** What the thread does until the pipe closes. */
function loop(epoll: Fd, far: Fd): Compiled {
  const { size } = layouts.epoll_event;
  // Of the pipe only that nobody reads it any more, which is told unasked, with the number 0.
  addTo(epoll.number, far.number, interestIn(0));
  const program = new LaunchProgram('errand');
  // It shares the table all the same, and closes in it what is its own.
  program.ownFiles();
  const event = program.output(size);
  program.step('host', 'epoll_pwait', [epoll, event, 1, -1, null, 0], { ignore: ['*'] });
  program.step('host', 'write', [far, event, size], { ignore: ['*'] });
  program.step('host', 'close', [epoll]);
  program.step('host', 'close', [far]);
  const compiled = program.compile();
  const [wait, write, close] = compiled.steps as [Step, Step, Step];
  wait.onIgnored = close;
  Object.assign(write, { onValue: wait, onIgnored: close });
  return compiled;
}
