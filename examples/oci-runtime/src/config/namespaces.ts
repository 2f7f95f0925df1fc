import { readlinkSync } from 'node:fs';
import { type NamespacesOptions, namespaces } from '@iso/namespaces';
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
 * @throws {@link RuntimeError} for a type that there is not, and for names without a namespace of theirs
 */
export function namespacesOf(config: Config): Part {
  const { linux = {}, hostname, domainname } = config;
  const options: Record<string, unknown> = {};
  for (const { type, path } of linux.namespaces ?? []) {
    const name = names[type];
    if (!name) throw new RuntimeError(`no type of namespace: ${JSON.stringify(type)}`);
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
