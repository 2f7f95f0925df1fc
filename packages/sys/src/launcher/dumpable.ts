import { PR } from '../raw/flags.js';
import { attempt } from '../syscall.js';

/** Launches under way that may make this process undumpable, and what it was before the first of them. */
let launches = 0;
let before = 1;

/**
 * To be called before a child that shares this process's memory joins namespaces where others live (it hides that memory
 * from them) or changes its credentials (the kernel does then).
 *
 * @returns puts the process back, once the last such launch is over; again does nothing
 */
export function keepDumpable(): () => void {
  if (launches++ === 0) before = attempt('prctl', PR.GET_DUMPABLE, 0, 0, 0, 0);
  let over = false;
  return () => {
    if (over) return;
    over = true;
    if (--launches === 0) attempt('prctl', PR.SET_DUMPABLE, before === 1 ? 1 : 0, 0, 0, 0);
  };
}
