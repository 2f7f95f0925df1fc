import type { Message } from '../netlink/message.js';
import { NFTA_DATA, NFTA_VERDICT, VERDICTS } from './raw.js';
import type { Verdict } from './statement.js';

/**
 * Adds bytes as a value.
 *
 * @param message - where to
 * @param type - of the attribute that holds it
 * @param value - the bytes
 */
export function writeData(message: Message, type: number, value: Uint8Array): void {
  message.nest(type, () => message.raw(NFTA_DATA.VALUE, value));
}

/**
 * Adds a verdict, inside of the attribute that holds it.
 *
 * @param message - where to
 * @param verdict - the verdict
 */
export function writeVerdict(message: Message, verdict: Verdict): void {
  message.nest(NFTA_DATA.VERDICT, () => {
    const [word, chain] =
      typeof verdict === 'string'
        ? [verdict, undefined]
        : (Object.entries(verdict)[0] as [keyof typeof VERDICTS, string]);
    // Negative numbers in the network's order.
    message.u32be(NFTA_VERDICT.CODE, VERDICTS[word] >>> 0);
    if (chain !== undefined) message.string(NFTA_VERDICT.CHAIN, chain);
  });
}
