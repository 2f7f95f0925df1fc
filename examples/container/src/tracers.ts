import { type NamespaceSource, tracers } from '@iso/namespaces';
import { UsageError } from './options.js';

/**
 * Refuses to start a process among those that could write to this one's memory meanwhile.
 *
 * @param source - the pid namespace that it would join
 * @throws {@link UsageError} where one of them can
 */
export function refuseTracers(source: NamespaceSource): void {
  const [tracer] = tracers(source);
  if (tracer === undefined) return;
  throw new UsageError(
    `process ${tracer} of the container has CAP_SYS_PTRACE, and could write to this process's memory while one is started beside it: the container needs a user namespace of its own (--userns private), or to be without SYS_PTRACE`,
  );
}
