import type { Message } from '../netlink/message.js';
import type { Replies } from '../netlink/replies.js';

/** How the collections of rtnetlink objects speak to the kernel. */
export interface Requests {
  /** Sends a request, or keeps it for the batch that is being put together. */
  request(message: Message): void;
  /** Asks for one object. */
  one<T>(message: Message, read: (reply: Replies) => T): T;
  /** The same while the event loop goes on. */
  oneLater<T>(message: Message, read: (reply: Replies) => T): Promise<T>;
  /** Asks for all objects; `type` is that of the messages that hold them. */
  dump<T>(message: Message, type: number, read: (reply: Replies) => T | undefined): T[];
  /** The index of a link, by its name. */
  linkIndex(link: string | number): number;
}
