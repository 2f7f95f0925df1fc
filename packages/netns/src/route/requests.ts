import type { Message } from '../netlink/message.js';
import type { Replies } from '../netlink/replies.js';

/**
 * Attempts at a list whose rest can be asked for otherwise: whom these do not help is disturbed by somebody who does not pause. More would take
 * long, and end as these do.
 */
export const FEW_ATTEMPTS = 5;

/** How the collections of rtnetlink objects speak to the kernel. */
export interface Requests {
  /** Sends a request, or keeps it for the batch that is being put together. */
  request(message: Message): void;
  /** Asks for one object. */
  one<T>(message: Message, read: (reply: Replies) => T): T;
  /** The same while the event loop goes on. */
  oneLater<T>(message: Message, read: (reply: Replies) => T): Promise<T>;
  /** Asks for all objects, `most` times where others change them meanwhile; `type` is that of the messages that hold them. */
  dump<T>(message: Message, type: number, read: (reply: Replies) => T | undefined, most?: number): T[];
  /** The index of a link, by its name. */
  linkIndex(link: string | number): number;
}
