import type { Socket } from 'node:net';
import type { Container } from '../container.js';
import { failureCode } from '../exitcode.js';
import { healthPlan } from '../health/config.js';
import type { Monitor } from '../health/monitor.js';
import { ContainerLog, type LogStream, parseLogOptions } from '../log/container-log.js';
import { complain } from '../say.js';
import { isEnd, parseSignal, STOP_SECONDS } from '../signal.js';
import { clean } from '../state/clean.js';
import { now } from '../state/document.js';
import type { HeldRecord } from '../state/held.js';
import { isLive } from '../state/record.js';
import { Clients } from './clients.js';
import { stopMs, thaw } from './end.js';
import type { Assignment } from './launch.js';
import { lighten } from './light.js';
import { type Outcome, runOnce } from './once.js';
import { parseRestart, Restarts } from './restart.js';

const SIGKILL = 9;

/**
 * Runs a container until it has ended and its policy does not start it again, and keeps its log and those who are attached.
 *
 * @param record - held by this process
 * @param starter - who started this
 * @param assignment - what it wants
 */
export async function supervise(record: HeldRecord, starter: Socket, assignment: Assignment): Promise<void> {
  const { flags, healthcheck, startedAt: before } = record.state;
  const { tty = false, interactive = false } = flags;
  let container: Container | undefined;
  let wake = () => {};
  const early: number[] = [];
  const start = new AbortController();
  const send = (number: number) => {
    if (container) container.child.kill(number);
    else if (number === SIGKILL) start.abort();
    else early.push(number);
    const { state } = record;
    // What stands still does not end.
    if (isEnd(number, flags.stopSignal) && isLive(state) && state.status === 'paused')
      thaw(record.home, state).catch((error: Error) => complain(error.message));
  };
  const kill = (number: number) => {
    if (isEnd(number, flags.stopSignal)) record.update({ stopped: true });
    send(number);
  };
  let goingDown = false;
  // As from a service manager when the machine goes down: what `iso stop` does, but that nobody has said that it is not to run. When the
  // machine is up again its policy counts.
  process.on('SIGTERM', () => {
    goingDown = true;
    send(parseSignal(flags.stopSignal ?? 'TERM'));
    wake();
    const ms = stopMs(flags.stopTimeout ?? STOP_SECONDS);
    if (ms !== undefined) setTimeout(() => send(SIGKILL), ms).unref();
  });
  const use = { tty, interactive, once: interactive && !flags.detach };
  const wishes = { signal: (name: string) => kill(parseSignal(name)), giveUp: () => wake() };
  using clients = await Clients.listen(record.directory, use, wishes);
  clients.size = assignment.terminal;
  clients.add(starter, assignment.attach);
  const log =
    flags.logDriver === 'none' ? undefined : new ContainerLog(record.directory, parseLogOptions(flags.logOpt ?? []));
  const guarded = (act: () => void) => {
    try {
      act();
    } catch (error) {
      // A full disk loses lines, not the container. This goes to a file beside the log.
      complain(`the log: ${(error as Error).message}`);
    }
  };
  const keep = (stream: LogStream, chunk: Buffer) => guarded(() => log?.write(stream, chunk));
  using logged = { [Symbol.dispose]: () => guarded(() => log?.[Symbol.dispose]()) };
  const plan = healthPlan(healthcheck);
  // What asks is loaded where there is a question.
  const health = plan && (await import('../health/monitor.js'));
  let monitor: Monitor | undefined;
  const restarts = new Restarts(parseRestart(flags.restart ?? 'no'));

  /** Once, to its end. */
  const run = (): Promise<Outcome> =>
    runOnce(
      record,
      {
        signal: start.signal,
        stdio: tty ? 'pty' : [interactive ? 'pipe' : 'ignore', 'pipe', 'pipe'],
        ...(tty && clients.size ? { terminal: clients.size } : {}),
      },
      (started) => {
        container = started;
        clients.serve(started, keep);
        if (plan && health) monitor = new health.Monitor(record, started, plan);
        for (const number of early.splice(0)) send(number);
        setImmediate(lighten);
      },
      () => clients.dropSlow(),
    ).finally(() => monitor?.[Symbol.dispose]());

  for (let first = true; ; first = false) {
    const startedAt = performance.now();
    let outcome: Outcome;
    try {
      outcome = await run();
    } catch (error) {
      const [exitCode, message] = start.signal.aborted
        ? [137, 'it was killed before it ran']
        : [failureCode(error), error instanceof Error ? error.message : String(error)];
      const status = first && before === undefined ? 'created' : 'exited';
      clients.unlisten();
      record.finish({ status, exitCode, error: message, finishedAt: now() });
      clients.failed(message, exitCode);
      return await clean(record.home);
    }
    container = undefined;
    const { exitCode, oomKilled } = outcome;
    const ended = { exitCode, oomKilled, finishedAt: now() };
    let delay: number | undefined;
    const ranMs = performance.now() - startedAt;
    // Whoever ends it says so under the same lock.
    record.update((state) => {
      delay = restarts.next({ exitCode, ranMs, stopped: goingDown || (state.stopped ?? false) });
      if (delay === undefined) return {};
      const restartCount = state.restartCount + 1;
      return { ...ended, status: 'restarting', restartCount, pid: undefined, pidStart: undefined, cgroup: undefined };
    });
    if (delay !== undefined) {
      record.update({}, ['die', { exitCode: String(exitCode) }]);
      clients.ended(exitCode);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, delay);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      if (!goingDown && !record.state.stopped) continue;
    }
    logged[Symbol.dispose]();
    clients.unlisten();
    record.finish({ ...ended, status: 'exited' });
    clients.ended(exitCode);
    return await clean(record.home);
  }
}
