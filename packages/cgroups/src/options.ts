import { invalid } from '@iso/sys';
import type { Cgroup } from './cgroup.js';
import { type Controller, isController } from './controller.js';
import type { Layout } from './layout.js';
import type { Limits } from './limits/limits.js';
import { choice, list, onlyKeys, shown } from './value.js';
import type { WaitOptions } from './wait.js';

/** Where a cgroup goes, and what it starts with. */
export interface CreateOptions {
  limits?: Limits;
  /**
   * Controllers that the group must have, beside those that `limits` name: enabled from the top of v2 down, joined on v1.
   * Default: cpu, memory, pids and io where they are to be had. `[]`: those of the limits alone.
   */
  controllers?: readonly Controller[];
  /** The group above: a path below the top of each hierarchy (default `iso`), or a group, for example a delegated one. */
  parent?: string | Cgroup;
  /** The machine's hierarchies, from {@link detect}; narrower where only a part of them is to be used. */
  layout?: Layout;
  /** The group takes single threads of processes that are in its parent (v2; v1's groups always do). */
  threaded?: boolean;
  /** What to do about limits that the machine's version has no twin of; default `throw`. */
  onUnsupported?: 'throw' | 'ignore';
}

/** How {@link Cgroup.set} sets. */
export interface SetOptions extends WaitOptions {
  /** What to do about limits that the machine's version has no twin of; default `throw`. */
  onUnsupported?: 'throw' | 'ignore';
  /**
   * A memory limit below what is used: `refuse` it (default), `reclaim` until it fits, or `force` it, by which v2 kills before the
   * call returns. `nonblock` (v2, Linux 6.16) sets it at once, and leaves reclaim, and being killed where that does not help, to the
   * group's next allocation. v1 never kills, but refuses what it cannot reclaim.
   */
  lowering?: 'refuse' | 'reclaim' | 'force' | 'nonblock';
}

/** Checks the options of {@link Cgroup.create}, or of a group's own `create`, which is its child's parent. */
export function checkCreate(options: CreateOptions, ofChild = false): void {
  const keys = ['limits', 'controllers', 'threaded', 'onUnsupported'];
  onlyKeys(options, 'the options of create', ofChild ? keys : [...keys, 'parent', 'layout']);
  for (const controller of list(options.controllers, 'controllers')) {
    if (!isController(controller)) throw invalid(`there is no controller ${shown(controller)}`);
  }
  if (!['undefined', 'boolean'].includes(typeof options.threaded)) throw invalid('threaded must be true or false');
  checkUnsupported(options);
}

/** Checks the options of {@link Cgroup.set}. */
export function checkSet(options: SetOptions): void {
  onlyKeys(options, 'the options of set', ['onUnsupported', 'lowering', 'signal', 'timeoutMs']);
  checkUnsupported(options);
  if (options.lowering !== undefined) choice(options.lowering, 'lowering', ['refuse', 'reclaim', 'force', 'nonblock']);
  checkTime(options);
}

/** Checks the options of what waits. */
export function checkWait(options: WaitOptions): void {
  onlyKeys(options, 'the options', ['signal', 'timeoutMs']);
  checkTime(options);
}

/** Checks what is to be done about limits that a version lacks. */
export function checkUnsupported({ onUnsupported }: Pick<SetOptions, 'onUnsupported'>): void {
  if (onUnsupported !== undefined) choice(onUnsupported, 'onUnsupported', ['throw', 'ignore']);
}

function checkTime({ timeoutMs, signal }: WaitOptions): void {
  if (timeoutMs !== undefined && !(typeof timeoutMs === 'number' && timeoutMs >= 0)) {
    throw invalid(`timeoutMs must be milliseconds, not ${shown(timeoutMs)}`);
  }
  checkSignal(signal);
}

/** Checks what ends a wait or a watch. */
export function checkSignal(signal: unknown): void {
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw invalid('signal must be an AbortSignal');
}
