import { readlinkSync } from 'node:fs';
import { type NamespaceSource, type NamespacesOptions, namespaces, tracers } from '@iso/namespaces';
import type { Fd, Part } from '@iso/sys';
import { isAlive, type ProcessIdentity } from '../container/identity.js';
import { RuntimeError } from '../error.js';
import type { Config, IdMapping, NamespaceName } from './spec.js';

/** Types as the specification calls them, and as `namespaces()` does. */
export const names: Record<NamespaceName, keyof NamespacesOptions> = {
  pid: 'pid',
  network: 'net',
  mount: 'mount',
  ipc: 'ipc',
  uts: 'uts',
  user: 'user',
  cgroup: 'cgroup',
  time: 'time',
};

/**
 * The namespaces of a configuration.
 *
 * @param config - of the bundle
 * @returns a part of the launch
 * @throws {@link RuntimeError} for a type that there is not, for names without a namespace of theirs, and where a process of a pid namespace that
 *   is joined could write to this one's memory meanwhile
 */
export function namespacesOf(config: Config): Part {
  const { linux = {}, hostname, domainname } = config;
  const options: Record<string, unknown> = {};
  for (const { type, path } of linux.namespaces ?? []) {
    const name = names[type];
    if (!name) throw new RuntimeError(`no type of namespace: ${JSON.stringify(type)}`);
    if (type === 'pid' && path) refuseTracers({ path });
    // The root makes its own.
    if (name !== 'mount') options[name] = path ? { path } : 'new';
  }
  if (hostname !== undefined || domainname !== undefined) {
    if (options.uts !== 'new') throw new RuntimeError('a host name needs a uts namespace of its own');
    options.uts = { ...(hostname ? { hostname } : {}), ...(domainname ? { domainname } : {}) };
  }
  if (options.user === 'new') {
    const { uidMappings = [], gidMappings = [] } = linux;
    options.user = { uidMap: uidMappings.map(range), gidMap: gidMappings.map(range) };
  }
  if (linux.timeOffsets) {
    if (options.time !== 'new') throw new RuntimeError('timeOffsets need a time namespace of its own');
    options.time = Object.fromEntries(
      Object.entries(linux.timeOffsets).map(([clock, { secs = 0, nanosecs = 0 }]) => [clock, secs + nanosecs / 1e9]),
    );
  }
  return namespaces(options as NamespacesOptions);
}

/** A range of ids as `UserNamespace` takes it. */
export const range = ({ containerID, hostID, size }: IdMapping) => ({
  inside: containerID,
  outside: hostID,
  count: size,
});

/**
 * Refuses to start a process among those that could write to this one's memory meanwhile.
 *
 * @param source - the pid namespace that it would join
 * @param waiting - pid of one that cannot: it runs nothing yet
 * @throws {@link RuntimeError} where one of them can
 */
export function refuseTracers(source: NamespaceSource, waiting?: number): void {
  const tracer = tracers(source).find((pid) => pid !== waiting);
  if (tracer === undefined) return;
  throw new RuntimeError(
    `process ${tracer} of the pid namespace has CAP_SYS_PTRACE, and could write to this process's memory while one is started beside it: the container needs a user namespace of its own, or to be without CAP_SYS_PTRACE`,
  );
}

/**
 * The namespaces that a process is in and this one is not.
 *
 * @param process_ - the process
 * @param pidfd - that holds it
 * @returns a part of a launch
 * @throws {@link RuntimeError} where it has ended
 */
export function namespacesOfProcess(process_: ProcessIdentity, pidfd: Fd): Part {
  const files = {
    pid: 'pid',
    net: 'net',
    mount: 'mnt',
    ipc: 'ipc',
    uts: 'uts',
    user: 'user',
    cgroup: 'cgroup',
    time: 'time',
  };
  const idOf = (pid: number | 'self', file: string) => readlinkSync(`/proc/${pid}/ns/${file}`, { encoding: 'utf8' });
  let other: string[];
  try {
    other = Object.entries(files).flatMap(([name, file]) =>
      idOf(process_.pid, file) === idOf('self', file) ? [] : [name],
    );
  } catch (error) {
    throw new RuntimeError('container not running', { cause: error });
  }
  // What was read was its own, if the number is still.
  if (!isAlive(process_)) throw new RuntimeError('container not running');
  return namespaces(Object.fromEntries(other.map((name) => [name, { pidfd }])));
}
