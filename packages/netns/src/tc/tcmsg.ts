import { KernelError, UnsupportedError } from '@iso/sys';
import type { Message } from '../netlink/message.js';
import type { Replies } from '../netlink/replies.js';
import { handleText, type TcHandle } from './handle.js';
import { TCA, TCA_STATS, TCMSG } from './raw.js';

/** A queueing discipline or class as the kernel describes it. */
export interface ListedQdisc {
  link: number;
  kind: string;
  handle: TcHandle | undefined;
  parent: TcHandle | undefined;
  bytes: bigint;
  packets: number;
  drops: number;
  overlimits: number;
  /** Bytes that wait. */
  backlog: number;
}

/** Appends `struct tcmsg`. */
export function head(message: Message, index: number, handle: number, parent: number, info: number): Message {
  return message.header(TCMSG, (header) => {
    header.writeInt32LE(index, 4);
    header.writeUInt32LE(handle, 8);
    header.writeUInt32LE(parent, 12);
    header.writeUInt32LE(info, 16);
  });
}

/** Sends what a kernel may lack: without it, it knows no such name. */
export function supported(feature: string, send: () => void): void {
  try {
    send();
  } catch (error) {
    throw lacking(feature, error);
  }
}

/** The error where the kernel lacks what was sent; any other comes back as it is. */
export function lacking(feature: string, error: unknown): unknown {
  if (!KernelError.is(error, 'ENOENT')) return error;
  const said = error.kernelMessage ?? '';
  if (said !== '' && !/unknown|not found|Failed to load/i.test(said)) return error;
  return new UnsupportedError(feature, `the kernel answered ENOENT${said ? `, ${said}` : ''}`, { cause: error });
}

/** Reads RTM_NEWQDISC and RTM_NEWTCLASS. */
export function readQdisc(reply: Replies): ListedQdisc {
  const at = reply.header(TCMSG);
  const qdisc: ListedQdisc = {
    link: reply.bytes.readInt32LE(at + 4),
    kind: '',
    handle: handleText(reply.bytes.readUInt32LE(at + 8)),
    parent: handleText(reply.bytes.readUInt32LE(at + 12)),
    bytes: 0n,
    packets: 0,
    drops: 0,
    overlimits: 0,
    backlog: 0,
  };
  const attributes = reply.attributes(TCMSG);
  while (attributes.next()) {
    if (attributes.type === TCA.KIND) qdisc.kind = attributes.string();
    else if (attributes.type === TCA.STATS2) {
      const stats = attributes.nested();
      while (stats.next()) {
        if (stats.type === TCA_STATS.BASIC) {
          const basic = stats.fixed(12);
          qdisc.bytes = basic.readBigUInt64LE(0);
          qdisc.packets = basic.readUInt32LE(8);
        } else if (stats.type === TCA_STATS.QUEUE) {
          const queue = stats.fixed(20);
          qdisc.backlog = queue.readUInt32LE(4);
          qdisc.drops = queue.readUInt32LE(8);
          qdisc.overlimits = queue.readUInt32LE(16);
        }
      }
    }
  }
  return qdisc;
}
