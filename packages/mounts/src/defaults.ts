import type { MountSpec } from './spec.js';

/** What Docker hides from a container. */
export const defaultMaskedPaths: readonly string[] = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
];

/** What Docker makes read-only in a container. */
export const defaultReadonlyPaths: readonly string[] = [
  '/proc/bus',
  '/proc/fs',
  '/proc/irq',
  '/proc/sys',
  '/proc/sysrq-trigger',
];

/**
 * The mounts that a container expects: /proc, /dev, /dev/pts, /dev/shm, /dev/mqueue, and a read-only /sys with its cgroup. In a user
 * namespace they need pid, ipc, cgroup and network namespaces of the same launch.
 *
 * @param options - `network`: the launch has a network namespace of its own, which a new sysfs shows; else the host's /sys is bound
 * @returns a recipe
 */
export function defaultMounts(options: { network?: boolean } = {}): MountSpec[] {
  const sealed = { nosuid: true, nodev: true, noexec: true };
  const own = options.network ?? true;
  return [
    { type: 'proc', target: '/proc' },
    { type: 'dev', target: '/dev' },
    { type: 'devpts', target: '/dev/pts' },
    { type: 'tmpfs', target: '/dev/shm', size: 64 * 1024 * 1024, ...sealed },
    { type: 'mqueue', target: '/dev/mqueue', ...sealed },
    own
      ? { type: 'sysfs', target: '/sys', readonly: true }
      : { type: 'bind', source: '/sys', target: '/sys', readonly: true, recursive: true, ...sealed },
    ...(own ? [{ type: 'cgroup2' as const, target: '/sys/fs/cgroup', readonly: true }] : []),
  ];
}
