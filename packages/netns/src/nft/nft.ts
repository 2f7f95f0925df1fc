import { KernelError } from '@iso/sys';
import { Message, nameOf } from '../netlink/message.js';
import { NETLINK, NLM_F } from '../netlink/raw.js';
import { NetlinkSocket, type NetlinkSocketOptions } from '../netlink/socket.js';
import { type ListedElement, readElements } from './element.js';
import {
  type ListedChain,
  type ListedRule,
  type ListedSet,
  type ListedTable,
  readChain,
  readRule,
  readSet,
  readTable,
} from './list.js';
import { messagesOf, nftMessage } from './operation.js';
import {
  FAMILIES,
  NFGENMSG,
  NFNL_MSG_BATCH,
  NFNL_SUBSYS,
  NFT_MSG,
  NFTA_CHAIN,
  NFTA_RULE,
  NFTA_SET,
  NFTA_SET_ELEM_LIST,
} from './raw.js';
import type { TableRef } from './table.js';
import { operationText } from './text.js';
import { Transaction } from './transaction.js';

/**
 * nf_tables in one network namespace: the firewall that `nft` shows, written in netlink. Changes are transactions: all of one is
 * done, or nothing. Needs CAP_NET_ADMIN in the user namespace that owns the network namespace.
 *
 * @example
 * ```ts root
 * import { NetNS } from '@iso/netns';
 * import { accept, match, Nft } from '@iso/netns/nft';
 * using lab = NetNS.create();
 * using nft = Nft.open({ home: lab });
 * const table = { family: 'inet', name: 'guard', flags: ['owner'] } as const;
 * const input = { table, name: 'input' };
 * nft.transaction((tx) => {
 *   tx.createTable(table);
 *   tx.createChain({ ...input, hook: { type: 'filter', hook: 'input', priority: 0, policy: 'drop' } });
 *   tx.createRule({ chain: input, statements: [match('tcp dport', 22), accept()] });
 * });
 * if (nft.tables()[0]?.name !== 'guard') throw new Error('no table');
 * ```
 */
export class Nft implements Disposable {
  readonly #socket: NetlinkSocket;

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  /**
   * Opens it. Tables with flag `owner` belong to this connection, and end with it.
   *
   * @param options - `home` is the network namespace, default this process's
   * @returns the connection
   * @throws KernelError `EPROTONOSUPPORT` where the kernel lacks nfnetlink
   */
  static open(options: NetlinkSocketOptions = {}): Nft {
    return new Nft(NetlinkSocket.open(NETLINK.NETFILTER, options));
  }

  /**
   * Makes changes: all of them, or none.
   *
   * @param build - notes the changes; they are sent when it returns
   * @throws KernelError the first refusal: `EEXIST`, `ENOENT`, `EBUSY`, `EPERM` (also for a table that another socket owns);
   * `info.operation` is what was refused, as nft would write it
   */
  transaction(build: (transaction: Transaction) => void): void {
    const { messages, owners } = compiled(build);
    if (messages.length === 0) return;
    try {
      this.#socket.transaction([bound('BEGIN'), ...messages, bound('END')]);
    } catch (error) {
      throw KernelError.is(error) ? explained(error, owners) : error;
    }
  }

  /**
   * The same as {@link Nft.transaction} while the event loop goes on: a thread of Node's pool waits for the kernel, as it has to where others
   * change its rules too.
   *
   * @param build - as there; it is asked at once
   * @returns done when they are
   * @throws KernelError as there
   */
  async transactionLater(build: (transaction: Transaction) => void): Promise<void> {
    const { messages, owners } = compiled(build);
    if (messages.length === 0) return;
    try {
      await this.#socket.transactionLater([bound('BEGIN'), ...messages, bound('END')]);
    } catch (error) {
      throw KernelError.is(error) ? explained(error, owners) : error;
    }
  }

  /**
   * Lists tables.
   *
   * @returns of all families
   */
  tables(): ListedTable[] {
    return this.#dump(NFT_MSG.GETTABLE, 0, readTable);
  }

  /**
   * Lists chains.
   *
   * @param table - of this table, default of all
   * @returns with their hooks
   */
  chains(table?: TableRef): ListedChain[] {
    return this.#dump(NFT_MSG.GETCHAIN, NFTA_CHAIN.TABLE, readChain, table);
  }

  /**
   * Lists rules: their handles, by which they are removed, the kernel's names of their expressions, their counters.
   *
   * @param table - of this table, default of all
   * @param chain - of this chain of it
   * @returns in the order in which packets meet them
   */
  rules(table?: TableRef, chain?: string): ListedRule[] {
    const rules = this.#dump(NFT_MSG.GETRULE, NFTA_RULE.TABLE, readRule, table, (message) => {
      if (table && chain !== undefined) message.string(NFTA_RULE.CHAIN, chain);
    });
    return chain === undefined ? rules : rules.filter((rule) => rule.chain === chain);
  }

  /**
   * Lists sets and maps.
   *
   * @param table - of this table, default of all
   * @returns without their elements
   */
  sets(table?: TableRef): ListedSet[] {
    return this.#dump(NFT_MSG.GETSET, NFTA_SET.TABLE, readSet, table);
  }

  /**
   * Lists the elements of a set or map.
   *
   * @param table - that it is in
   * @param name - its name
   * @returns in the kernel's order
   * @throws KernelError `ENOENT`
   */
  elements(table: TableRef, name: string): ListedElement[] {
    const set = this.sets(table).find((candidate) => candidate.name === name);
    if (!set) throw new KernelError(2, { syscall: 'sendto', call: `NFT_MSG_GETSETELEM ${table.name} ${name}` });
    const message = request('GETSETELEM', NFT_MSG.GETSETELEM, table);
    message.string(NFTA_SET_ELEM_LIST.TABLE, table.name).string(NFTA_SET_ELEM_LIST.SET, name);
    return this.#socket.dump(message, (reply) => readElements(reply, set)).flat();
  }

  #dump<T extends { family: string; table?: string }>(
    type: number,
    tableAttribute: number,
    read: (reply: Parameters<typeof readTable>[0]) => T | undefined,
    table?: TableRef,
    more: (message: Message) => void = () => {},
  ): T[] {
    const message = request(nameOf(NFT_MSG, type), type, table);
    if (table && tableAttribute) message.string(tableAttribute, table.name);
    more(message);
    const values = this.#socket.dump(message, read);
    // Kernels differ in what of a dump they filter.
    return table ? values.filter((value) => value.family === table.family && value.table === table.name) : values;
  }

  /** Closes it; tables with flag `owner` and without `persist` end. */
  close(): void {
    this.#socket.close();
  }

  /**
   * The same as {@link Nft.close} while the event loop goes on.
   *
   * @returns done when it is closed
   */
  closeLater(): Promise<void> {
    return this.#socket.closeLater();
  }

  /** The same as {@link Nft.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** The messages of what is asked for, and of each what it belongs to. */
function compiled(build: (transaction: Transaction) => void): { messages: Message[]; owners: string[] } {
  const transaction = new Transaction();
  build(transaction);
  const owners: string[] = [];
  const messages = transaction.operations.flatMap((operation, i) => {
    const made = messagesOf(operation, i + 1);
    owners.push(...made.map(() => operationText(operation)));
    return made;
  });
  return { messages, owners };
}

function request(name: string, type: number, table?: TableRef): Message {
  return nftMessage(
    `NFT_MSG_${name}${table ? ` ${table.name}` : ''}`,
    type,
    table ? FAMILIES[table.family] : 0,
    NLM_F.DUMP,
  );
}

/** The refusal with the operation that was refused. */
function explained(error: KernelError, operations: readonly string[]): KernelError {
  const { syscall, kernelMessage, info, hint } = error;
  const operation = operations[Number(info?.index)];
  // The kernel says the same to a stranger as to one without privilege.
  const permission = `${hint}; or the table belongs to another socket`;
  return new KernelError(error.errno, {
    syscall,
    call: operation ?? 'nf_tables transaction',
    ...(kernelMessage !== undefined && { kernelMessage }),
    ...(hint !== undefined && { hint: error.code === 'EPERM' ? permission : hint }),
    info: { ...info, operation },
    cause: error,
  });
}

/** The messages around a transaction name the subsystem that it is for. */
function bound(which: keyof typeof NFNL_MSG_BATCH): Message {
  return new Message(`NFNL_MSG_BATCH_${which}`, NFNL_MSG_BATCH[which]).header(NFGENMSG, (header) => {
    header.writeUInt16BE(NFNL_SUBSYS.NFTABLES, 2);
  });
}
