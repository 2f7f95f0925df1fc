import type { FAMILIES, HOOKS, TABLE_FLAGS } from './raw.js';
import type { SetElement, SetSpec } from './set.js';
import type { Statement } from './statement.js';

/** Family of a table: which packets its chains see. */
export type TableFamily = keyof typeof FAMILIES;

/** A table, by its name. */
export interface TableRef {
  family: TableFamily;
  name: string;
}

/** A table as it is to be. */
export interface TableSpec extends TableRef {
  /**
   * `owner`: only this socket may change it, and the kernel removes it when the socket closes, however that comes; `persist`:
   * then it stays, and another socket may own it. `dormant`: it does nothing.
   */
  flags?: readonly (keyof typeof TABLE_FLAGS)[];
}

/** A chain, by its name. */
export interface ChainRef {
  table: TableRef;
  name: string;
}

/** Where the kernel calls a chain. */
export type Hook = keyof (typeof HOOKS)['inet'] | 'egress';

/** A chain as it is to be: with a hook the kernel calls it, without one other chains do. */
export interface ChainSpec extends ChainRef {
  hook?: {
    type: 'filter' | 'nat' | 'route';
    hook: Hook;
    /** Lower ones come first: raw is -300, mangle -150, dstnat -100, filter 0, srcnat 100. */
    priority: number;
    policy?: 'accept' | 'drop';
    /** Links of a chain of `ingress` or `egress`. */
    devices?: readonly string[];
  };
}

/** A rule as it is to be. */
export interface RuleSpec {
  chain: ChainRef;
  statements: readonly Statement[];
  comment?: string;
  /** At the front of the chain instead of its end. */
  insert?: boolean;
}

/** One change of a transaction. */
export type Operation =
  | { verb: 'create' | 'ensure'; what: 'table'; table: TableSpec }
  | { verb: 'create' | 'ensure'; what: 'chain'; chain: ChainSpec }
  | { verb: 'create' | 'ensure'; what: 'set'; set: SetSpec }
  | { verb: 'create'; what: 'rule'; rule: RuleSpec }
  | { verb: 'create' | 'remove'; what: 'elements'; set: SetSpec; elements: readonly SetElement[] }
  | { verb: 'remove'; what: 'table'; table: TableRef }
  | { verb: 'remove' | 'flush'; what: 'chain'; chain: ChainRef }
  | { verb: 'remove' | 'flush'; what: 'set'; set: SetSpec }
  | { verb: 'remove'; what: 'rule'; chain: ChainRef; handle: bigint };
