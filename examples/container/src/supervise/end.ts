import { CgroupError } from '@iso/cgroups';
import { attempt, type Fd, KernelError, openPidfd, watchFd } from '@iso/sys';
import { openCgroup } from '../control.js';
import { isEnd, parseSignal, STOP_SECONDS } from '../signal.js';
import { lockAll, readOne } from '../state/document.js';
import { waitForEnd } from '../state/held.js';
import {
  type ContainerState,
  containerDirectory,
  isItself,
  isLive,
  type LiveContainer,
  updateContainer,
} from '../state/record.js';
import { FRAME } from './frame.js';
import { Link } from './link.js';

const SIGKILL = 9;
const ESRCH = -3;

/**
 * Whether nothing of a container runs, nor will by itself.
 *
 * @param container - its record
 */
export function isOver({ status }: ContainerState): boolean {
  return status === 'created' || status === 'exited';
}

/**
 * Sends the first process of a container a signal.
 *
 * @param home - where state is kept
 * @param container - one that runs
 * @param number - of the signal
 * @returns its pidfd, undefined where it has ended meanwhile
 */
export async function sendSignal(home: string, container: LiveContainer, number: number): Promise<Fd | undefined> {
  const { id, pid } = container;
  const pidfd = openPidfd(pid);
  if (!pidfd) return undefined;
  try {
    // The number is its own for as long as its record says so: only then does the descriptor stand for it.
    const ends = isEnd(number, container.flags.stopSignal);
    const known = updateContainer(home, id, ends ? { stopped: true } : {});
    const same = known && isLive(known) && known.pid === pid && isItself(known);
    const result = same ? attempt('pidfd_send_signal', pidfd, number, null, 0) : ESRCH;
    if (result === ESRCH) {
      pidfd.close();
      return undefined;
    }
    if (result < 0) throw new KernelError(result, { syscall: 'pidfd_send_signal' });
    updateContainer(home, id, {}, ['kill', { signal: String(number) }]);
    if (ends && container.status === 'paused') await thaw(home, container);
    return pidfd;
  } catch (error) {
    pidfd.close();
    throw error;
  }
}

/**
 * Lets a paused container go on: what stands still does not end.
 *
 * @param home - where state is kept
 * @param container - its record; nothing is done to one that has ended meanwhile
 */
export async function thaw(home: string, container: LiveContainer): Promise<void> {
  try {
    using cgroup = await openCgroup(container);
    await cgroup.thaw();
  } catch (error) {
    if (CgroupError.is(error, 'removed') || KernelError.is(error, 'ENODEV')) return;
    throw error;
  }
  const { id, pid } = container;
  updateContainer(home, id, (state) => (state.pid === pid && state.status === 'paused' ? { status: 'running' } : {}));
}

/**
 * Ends a container, and waits until it has ended; its policy does not start it again.
 *
 * @param home - where state is kept
 * @param container - its record; nothing is done to one that does not run
 * @param options - `signal` to ask it by, default its own; `seconds` until it is killed, default its own; below 0: never
 */
export async function stop(
  home: string,
  container: ContainerState,
  options: { signal?: number; seconds?: number } = {},
): Promise<void> {
  const { id, flags } = container;
  const known = updateContainer(home, id, (state) => (isOver(state) ? {} : { stopped: true }));
  if (!known || isOver(known)) return;
  const { signal = parseSignal(flags.stopSignal ?? 'TERM'), seconds = flags.stopTimeout ?? STOP_SECONDS } = options;
  if (isLive(known)) {
    using pidfd = await sendSignal(home, known, seconds === 0 ? SIGKILL : signal);
    if (pidfd && known.status === 'paused') await thaw(home, known).catch(() => {});
    if (pidfd && seconds !== 0 && !(await endsWithin(pidfd, seconds)))
      (await sendSignal(home, known, SIGKILL))?.close();
    // It has just ended; or its number is not its own, and nobody but who runs it reaches it.
    if (!pidfd) await tell(home, id, FRAME.signal, 'KILL');
  } else {
    // It is on its way to its next run, or to its first: what finds that it was stopped ends it.
    await tell(home, id, FRAME.giveUp);
  }
  waitForEnd(home, id);
  updateContainer(home, id, {}, 'stop');
}

/** Nothing where there is no supervisor. */
async function tell(home: string, id: string, frame: number, payload?: string): Promise<void> {
  using link = await Link.connect(containerDirectory(home, id));
  link?.send(frame, payload);
}

/**
 * How long a container has to end by itself.
 *
 * @param seconds - below 0: for ever
 * @returns milliseconds, no more than a timer takes; undefined for ever
 */
export function stopMs(seconds: number): number | undefined {
  return seconds < 0 ? undefined : Math.min(seconds * 1000, 2 ** 31 - 1);
}

async function endsWithin(pidfd: Fd, seconds: number): Promise<boolean> {
  const ms = stopMs(seconds);
  const signal = ms === undefined ? undefined : AbortSignal.timeout(ms);
  try {
    await watchFd(pidfd, signal ? { signal } : {});
    return true;
  } catch (error) {
    if (signal?.aborted) return false;
    throw error;
  }
}

/**
 * Ends a container by force, whatever it is about, and waits until it has ended.
 *
 * @param home - where state is kept
 * @param container - its record
 */
export async function killNow(home: string, container: ContainerState): Promise<void> {
  await stop(home, container, { seconds: 0 });
}

/** What is known of it now. */
export function current(home: string, id: string): ContainerState | undefined {
  using _one = lockAll(home);
  return readOne(home, id);
}
