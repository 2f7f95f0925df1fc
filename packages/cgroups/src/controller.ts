/**
 * A controller, by its v2 name on every version: v1's `blkio` is `io`. `cpuacct`, `net_cls` and `net_prio` are v1's alone;
 * `freezer`, `devices` and `perf_event` have no controller on v2, where every group can do it.
 */
export type Controller =
  | 'cpu'
  | 'cpuacct'
  | 'cpuset'
  | 'memory'
  | 'io'
  | 'pids'
  | 'hugetlb'
  | 'rdma'
  | 'misc'
  | 'dmem'
  | 'devices'
  | 'freezer'
  | 'net_cls'
  | 'net_prio'
  | 'perf_event';

/** Version of a hierarchy. */
export type Version = 1 | 2;

/** Every {@link Controller}. */
const controllers: readonly Controller[] = [
  'cpu',
  'cpuacct',
  'cpuset',
  'memory',
  'io',
  'pids',
  'hugetlb',
  'rdma',
  'misc',
  'dmem',
  'devices',
  'freezer',
  'net_cls',
  'net_prio',
  'perf_event',
];

/** @internal Whether something is the name of a {@link Controller}. */
export function isController(value: unknown): value is Controller {
  return controllers.some((controller) => controller === value);
}

/**
 * A controller by the kernel's name.
 *
 * @param name - as in mount options and `cgroup.controllers`
 * @returns the controller; undefined for what is none (`rw`, `name=systemd`, one that this package does not know)
 */
export function controllerNamed(name: string): Controller | undefined {
  if (name === 'blkio') return 'io';
  return controllers.find((controller) => controller === name);
}

/** @internal What v2 does in every group, without a controller. */
export const inherent: readonly Controller[] = ['devices', 'freezer', 'perf_event'];

/** @internal Those whose groups may be threaded on v2, see cgroups(7). */
export const threadedControllers: readonly Controller[] = ['cpu', 'cpuset', 'pids', 'perf_event'];
