import { signalNumber } from '@iso/process';
import { UsageError } from './options.js';

const SIGKILL = 9;
/** What a container is given to end by itself, as docker's. */
export const STOP_SECONDS = 10;

/**
 * Parses the name or number of a signal, with or without `SIG`.
 *
 * @param text - as typed
 * @returns its number
 * @throws {@link UsageError}
 */
export function parseSignal(text: string): number {
  const word = text.toUpperCase();
  const number = /^\d{1,2}$/.test(word) ? Number(word) : 0;
  if (number > 0 && number <= 64) return number;
  const realtime = /^(?:SIG)?RTM(IN\+|AX-)(\d{1,2})$/.exec(word);
  if (realtime) {
    const found = realtime[1] === 'IN+' ? 34 + Number(realtime[2]) : 64 - Number(realtime[2]);
    if (found >= 34 && found <= 64) return found;
  }
  try {
    return signalNumber((word.startsWith('SIG') ? word : `SIG${word}`) as NodeJS.Signals);
  } catch {
    throw new UsageError(`not a signal: ${JSON.stringify(text)}`);
  }
}

/**
 * Whether a signal is meant to end a container: then its restart policy does not start it again.
 *
 * @param number - of the signal
 * @param stopSignal - the one that it is stopped by
 */
export function isEnd(number: number, stopSignal: string | undefined): boolean {
  return number === SIGKILL || number === parseSignal(stopSignal ?? 'TERM');
}
