import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { invalid, type LaunchProgram } from '@iso/sys';

const numbers: Record<string, number> = constants.signals;
const names = new Map(Object.entries(numbers).map(([name, number]) => [number, name as NodeJS.Signals]));

/** The first real-time signal that programs may use; libc keeps two. */
const SIGRTMIN = 34;

/**
 * Number of a signal.
 *
 * @param signal - a name (`'SIGTERM'`, and `'SIGRTMIN+3'` as of {@link signalName}) or a number from 0 to 64
 * @returns the number
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) where there is no such signal
 */
export function signalNumber(signal: NodeJS.Signals | number): number {
  const number = typeof signal === 'number' ? signal : (numbers[signal] ?? realtime(signal));
  if (number === undefined || !Number.isInteger(number) || number < 0 || number > 64) {
    throw invalid(`unknown signal: ${String(signal)}`);
  }
  return number;
}

function realtime(name: string): number | undefined {
  const above = /^SIGRTMIN\+(-?\d+)$/.exec(String(name))?.[1];
  return above === undefined ? undefined : SIGRTMIN + Number(above);
}

/**
 * Name of a signal.
 *
 * @param number - from 1 to 64
 * @returns for example `'SIGTERM'`; `'SIGRTMIN+3'` for a real-time signal
 */
export function signalName(number: number): NodeJS.Signals {
  return names.get(number) ?? (`SIGRTMIN+${number - SIGRTMIN}` as NodeJS.Signals);
}

/** Signals that this process ignores (Node: SIGPIPE, SIGXFSZ; its own parent may have left more): exec would keep them so. */
let ignored: number[] | undefined;

/**
 * Gives the child the signal state of a fresh program: nothing ignored, nothing blocked. Handlers are gone by clone3.
 *
 * @param program - the launch
 */
export function resetSignals(program: LaunchProgram): void {
  ignored ??= readIgnored();
  for (const signal of ignored) program.step('signals', 'rt_sigaction', [signal, defaultAction, null, 8]);
  const SIG_SETMASK = 2;
  program.step('signals', 'rt_sigprocmask', [SIG_SETMASK, noSignals, null, 8]);
}

const defaultAction = Buffer.alloc(32);
const noSignals = Buffer.alloc(8);

function readIgnored(): number[] {
  const mask = BigInt(`0x${/^SigIgn:\s*(\w+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'}`);
  return Array.from({ length: 64 }, (_, i) => i + 1).filter((signal) => (mask >> BigInt(signal - 1)) & 1n);
}
