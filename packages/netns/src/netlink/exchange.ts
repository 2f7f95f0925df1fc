import { KernelError } from '@iso/sys';
import { type Refusal, refused } from './error.js';
import type { Message } from './message.js';
import { NLMSG } from './raw.js';
import type { Replies } from './replies.js';

const EAGAIN = -11;

/** Messages that are sent together, and what becomes of them. Several may be under way by one socket. */
export interface Exchange<T> {
  readonly messages: readonly Message[];
  /** Number of the first of them, once they have numbers. */
  first: number;
  /** Whether an acknowledgement is asked for. */
  acknowledges(index: number): boolean;
  /** Takes a reply, where it is to one of these. */
  take(reply: Replies): boolean;
  /** Whether nothing more is to come. */
  readonly done: boolean;
  /** What came of it; throws where that is not known. */
  result(): T;
}

/** Messages each of which has its own outcome. */
export class Outcomes implements Exchange<(KernelError | undefined)[]> {
  readonly messages: readonly Message[];
  first = 0;
  readonly #outcomes: (KernelError | undefined)[];
  readonly #answered: boolean[];
  readonly #onReply: ((reply: Replies) => void) | undefined;
  #pending: number;

  /**
   * @param messages - to be sent
   * @param onReply - told of what comes before the acknowledgements
   */
  constructor(messages: readonly Message[], onReply?: (reply: Replies) => void) {
    this.messages = messages;
    this.#outcomes = Array(messages.length).fill(undefined);
    this.#answered = Array(messages.length).fill(false);
    this.#pending = messages.length;
    this.#onReply = onReply;
  }

  acknowledges(): boolean {
    return true;
  }

  get done(): boolean {
    return this.#pending === 0;
  }

  take(reply: Replies): boolean {
    const index = (reply.sequence - this.first) >>> 0;
    if (index >= this.messages.length) return false;
    if (this.#answered[index]) return true;
    if (reply.type === NLMSG.ERROR || reply.type === NLMSG.DONE) {
      const refusal = reply.refusal();
      if (refusal.errno !== 0) this.#outcomes[index] = refused(this.messages[index] as Message, refusal);
      this.#answered[index] = true;
      this.#pending -= 1;
    } else if (reply.type > NLMSG.OVERRUN) this.#onReply?.(reply);
    return true;
  }

  result(): (KernelError | undefined)[] {
    if (!this.done) throw unanswered(this.messages[this.#answered.indexOf(false)] as Message);
    return this.#outcomes;
  }
}

/** A dump: its parts, up to the end. */
export class Listing<T> implements Exchange<T[]> {
  readonly messages: readonly Message[];
  first = 0;
  done = false;
  /** Whether what it lists changed while it was read. */
  interrupted = false;
  readonly values: T[] = [];
  readonly #decode: (reply: Replies) => T | undefined;
  #refused: KernelError | undefined;

  /**
   * @param message - the request
   * @param decode - makes of each message a value to keep, or undefined
   */
  constructor(message: Message, decode: (reply: Replies) => T | undefined) {
    this.messages = [message];
    this.#decode = decode;
  }

  acknowledges(): boolean {
    return true;
  }

  take(reply: Replies): boolean {
    if (reply.sequence !== this.first) return false;
    if (this.done) return true;
    if (reply.interrupted) this.interrupted = true;
    if (reply.type > NLMSG.OVERRUN) {
      const value = this.#decode(reply);
      if (value !== undefined) this.values.push(value);
    } else if (reply.type === NLMSG.DONE || reply.type === NLMSG.ERROR) {
      const refusal = reply.refusal();
      if (refusal.errno !== 0) this.#refused = refused(this.messages[0] as Message, refusal);
      this.done = true;
    }
    return true;
  }

  result(): T[] {
    if (!this.done) throw unanswered(this.messages[0] as Message);
    if (this.#refused) throw this.#refused;
    return this.values;
  }
}

/** A transaction: of its messages all are done, or none. */
export class Verdict implements Exchange<void> {
  readonly messages: readonly Message[];
  first = 0;
  readonly #last: number;
  readonly #refusals = new Map<number, Refusal>();
  #acknowledged = false;

  /** @param messages - the first the begin, the last the end */
  constructor(messages: readonly Message[]) {
    this.messages = messages;
    // Errors come for every message, the acknowledgement of the last one is asked for: so many fit the buffer.
    this.#last = messages.length - 2;
  }

  acknowledges(index: number): boolean {
    return index === this.#last;
  }

  /** Never before all has been read: how many refusals there are nobody knows. */
  get done(): boolean {
    return false;
  }

  take(reply: Replies): boolean {
    const index = (reply.sequence - this.first) >>> 0;
    if (index >= this.messages.length) return false;
    if (reply.type !== NLMSG.ERROR) return true;
    const refusal = reply.refusal();
    if (index === this.#last) this.#acknowledged = true;
    if (refusal.errno !== 0 && !this.#refusals.has(index)) this.#refusals.set(index, refusal);
    return true;
  }

  result(): void {
    const [first] = [...this.#refusals].sort(([a], [b]) => a - b);
    if (first) throw refused(this.messages[first[0]] as Message, first[1], { index: first[0] - 1 });
    if (!this.#acknowledged) throw unanswered(this.messages[this.#last] as Message);
  }
}

function unanswered(message: Message): KernelError {
  return new KernelError(EAGAIN, { syscall: 'recvfrom', call: message.call, hint: 'the kernel left it unanswered' });
}
