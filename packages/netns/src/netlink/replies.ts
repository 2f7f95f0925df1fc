import { Attributes } from './attribute.js';
import { malformed, type Refusal, readRefusal } from './error.js';
import { align, HEADER, NLM_F, NLMSG } from './raw.js';

/**
 * Walks the messages of one datagram. Lengths are checked before anything is read. What it points into is overwritten by
 * the next datagram: copy what is to stay.
 */
export class Replies {
  /** The datagram. */
  readonly bytes: Buffer;
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
    this.bytes = bytes;
    this.#end = length;
    this.#attributes = new Attributes(bytes, 0, 0);
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
    const length = this.bytes.readUInt32LE(at);
    if (length < HEADER || length > left) throw malformed(`a message of ${length} bytes where ${left} are left`, at);
    this.type = this.bytes.readUInt16LE(at + 4);
    this.flags = this.bytes.readUInt16LE(at + 6);
    this.sequence = this.bytes.readUInt32LE(at + 8);
    this.port = this.bytes.readUInt32LE(at + 12);
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
