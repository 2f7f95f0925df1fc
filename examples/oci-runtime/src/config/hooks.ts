import type { Config, HookPoint } from './spec.js';

/** Those that find namespaces and mounts made, and the root not entered. */
const atHalt: readonly HookPoint[] = ['prestart', 'createRuntime', 'createContainer'];

/**
 * Whether a launch has to stand still for its hooks before its root is entered.
 *
 * @param config - of the bundle
 */
export function haltsForHooks({ hooks = {} }: Config): boolean {
  return atHalt.some((point) => hooks[point]?.length);
}
