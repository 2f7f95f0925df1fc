import { Attributes } from './attribute.js';
import { malformed, type Refusal, readRefusal } from './error.js';
import { align, HEADER, inWords, NLM_F, NLMSG, wordsOf } from './raw.js';

/**
 * Walks the messages of one datagram. Lengths are checked before anything is read. What it points into is overwritten by
 * the next datagram: copy what is to stay.
 */
export class Replies {
  /** The datagram. */
  readonly bytes: Buffer;
  readonly #words: Int32Array;
  readonly #end: number;
  readonly #attributes: Attributes;
  #next = 0;
  /** Type of the current message. */
  type = 0;
  /** Its NLM_F flags. */
  flags = 0;
  /** Number of the request that it answers; 0 in notifications. */
  sequence = 0;
  /** Port of the socket that asked. */
  port = 0;
  /** Where its body starts. */
  start = 0;
  /** Where its body ends. */
  end = 0;

  /**
   * @param bytes - that hold the datagram
   * @param length - of the datagram
   */
  constructor(bytes: Buffer, length: number = bytes.length) {
    if (length > bytes.length) throw malformed('a datagram longer than its buffer', 0);
    this.bytes = inWords(bytes);
    this.#words = wordsOf(this.bytes);
    this.#end = length;
    this.#attributes = new Attributes(this.bytes, 0, 0, this.#words);
  }

  /**
   * Goes to the next message.
   *
   * @returns false behind the last
   * @throws KernelError `EBADMSG` where one is longer than the datagram
   */
  next(): boolean {
    const at = this.#next;
    if (at >= this.#end) return false;
    const left = this.#end - at;
    if (left < HEADER) throw malformed(`a message header of ${left} bytes`, at);
    const words = this.#words;
    const word = at >> 2;
    const length = (words[word] as number) >>> 0;
    if (length < HEADER || length > left) throw malformed(`a message of ${length} bytes where ${left} are left`, at);
    this.type = (words[word + 1] as number) & 0xffff;
    this.flags = (words[word + 1] as number) >>> 16;
    this.sequence = (words[word + 2] as number) >>> 0;
    this.port = (words[word + 3] as number) >>> 0;
    this.start = at + HEADER;
    this.end = at + length;
    this.#next = at + align(length);
    return true;
  }

  /**
   * Where the family's header of the current message starts.
   *
   * @param size - how long it is
   * @returns the offset in {@link Replies.bytes}
   * @throws KernelError `EBADMSG` where the message is shorter
   */
  header(size: number): number {
    if (this.end - this.start < size)
      throw malformed(`a message of type ${this.type} with ${this.end - this.start} bytes, not ${size}`, this.start);
    return this.start;
  }

  /**
   * 32 bits in this machine's order.
   *
   * @param at - offset in {@link Replies.bytes}, of a word of the current message
   * @returns without a sign
   */
  u32(at: number): number {
    return (this.#words[at >> 2] as number) >>> 0;
  }

  /**
   * The attributes of the current message. One object walks those of all messages, for there are many: the next call starts it anew.
   *
   * @param header - size of the family's header before them
   * @returns to walk
   */
  attributes(header: number): Attributes {
    const from = this.header(header) + align(header);
    return this.#attributes.walk(from, Math.max(this.end, from));
  }

  /** What an NLMSG_ERROR or NLMSG_DONE says. */
  refusal(): Refusal {
    return readRefusal(this.bytes, this.start, this.end, this.flags, this.type === NLMSG.ERROR);
  }

  /** Whether the dump that this belongs to changed while it was read. */
  get interrupted(): boolean {
    return (this.flags & NLM_F.DUMP_INTR) !== 0;
  }
}
