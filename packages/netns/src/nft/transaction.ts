import type { SetElement, SetSpec } from './set.js';
import type { ChainRef, ChainSpec, Operation, RuleSpec, TableRef, TableSpec } from './table.js';
import { operationText } from './text.js';

/** Changes that are made together: `create` refuses what exists, `ensure` does not. */
export class Transaction {
  /** What was noted so far. */
  readonly operations: Operation[] = [];

  /** Makes a table. */
  createTable(table: TableSpec): void {
    this.operations.push({ verb: 'create', what: 'table', table });
  }

  /** Makes a table where there is none. */
  ensureTable(table: TableSpec): void {
    this.operations.push({ verb: 'ensure', what: 'table', table });
  }

  /** Removes a table with all that is in it. */
  removeTable(table: TableRef): void {
    this.operations.push({ verb: 'remove', what: 'table', table });
  }

  /** Makes a chain. */
  createChain(chain: ChainSpec): void {
    this.operations.push({ verb: 'create', what: 'chain', chain });
  }

  /** Makes a chain where there is none. */
  ensureChain(chain: ChainSpec): void {
    this.operations.push({ verb: 'ensure', what: 'chain', chain });
  }

  /** Removes a chain that no rule jumps to. */
  removeChain(chain: ChainRef): void {
    this.operations.push({ verb: 'remove', what: 'chain', chain });
  }

  /** Removes the rules of a chain. */
  flushChain(chain: ChainRef): void {
    this.operations.push({ verb: 'flush', what: 'chain', chain });
  }

  /** Adds a rule to a chain. */
  createRule(rule: RuleSpec): void {
    this.operations.push({ verb: 'create', what: 'rule', rule });
  }

  /** Removes a rule by its handle, which `Nft.rules` tells. */
  removeRule(chain: ChainRef, handle: bigint): void {
    this.operations.push({ verb: 'remove', what: 'rule', chain, handle });
  }

  /** Makes a set or map. */
  createSet(set: SetSpec): void {
    this.operations.push({ verb: 'create', what: 'set', set });
  }

  /** Makes a set or map where there is none. */
  ensureSet(set: SetSpec): void {
    this.operations.push({ verb: 'ensure', what: 'set', set });
  }

  /** Removes a set that no rule uses. */
  removeSet(set: SetSpec): void {
    this.operations.push({ verb: 'remove', what: 'set', set });
  }

  /** Removes the elements of a set. */
  flushSet(set: SetSpec): void {
    this.operations.push({ verb: 'flush', what: 'set', set });
  }

  /** Adds elements; one that is there already is refused. */
  createElements(set: SetSpec, elements: readonly SetElement[]): void {
    this.operations.push({ verb: 'create', what: 'elements', set, elements });
  }

  /** Removes elements. */
  removeElements(set: SetSpec, elements: readonly SetElement[]): void {
    this.operations.push({ verb: 'remove', what: 'elements', set, elements });
  }

  /**
   * The changes as a script for `nft -f`, to look at.
   *
   * @returns one line for each
   */
  toNftText(): string {
    return this.operations.map((operation) => `${operationText(operation)}\n`).join('');
  }
}
