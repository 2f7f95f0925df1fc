import type { DeviceRule } from '../devices/rule.js';

/** A number of bytes: a whole number, or text with a suffix of powers of 1024 (`'256M'`). `'max'` is no limit. */
export type Bytes = number | string;

/** A block device: `'8:0'`, its file (`'/dev/sda'`), or any path on a file system that lies on it. */
export type Device = string;

/**
 * Limits, with the meaning of v2 on every version, see the kernel's cgroup-v2 document; `'max'` is no limit. What is not
 * named stays as it is. On v1 they are converted; what v1 (or v2) has no twin of is refused, or ignored where the caller
 * says so.
 */
export interface Limits {
  cpu?: CpuLimits;
  cpuset?: CpusetLimits;
  memory?: MemoryLimits;
  io?: IoLimits;
  pids?: {
    /** Most tasks: processes and threads. */
    max?: number | 'max';
  };
  /** By page size as the kernel's files have it: `'2MB'`, `'1GB'`. */
  hugetlb?: Record<string, { max?: Bytes; rsvdMax?: Bytes }>;
  /** By device name. */
  rdma?: Record<string, { hcaHandle?: number | 'max'; hcaObject?: number | 'max' }>;
  /** By resource, see `misc.capacity` of the root. */
  misc?: Record<string, number | 'max'>;
  /** By memory region of a device, see `dmem.capacity` of the root. */
  dmem?: Record<string, { max?: Bytes; low?: Bytes; min?: Bytes }>;
  /**
   * Which device files may be read, written and made. The last rule that matches decides; what none matches is denied.
   * v1: the lists of the devices controller. v2: a BPF program.
   */
  devices?: readonly DeviceRule[];
  /** v1 only: the class that packets of these processes carry, for traffic control and firewalls. */
  net_cls?: { classid?: number };
  /** v1 only: priority by network interface. */
  net_prio?: { ifpriomap?: Record<string, number> };
  /** v2 only: bounds on groups below this one. */
  cgroup?: { maxDepth?: number | 'max'; maxDescendants?: number | 'max' };
}

/** See {@link Limits}. */
export interface CpuLimits {
  /** Processors' worth of time (0.5), or quota and period in microseconds. */
  max?: number | 'max' | { quotaUs: number | 'max'; periodUs?: number };
  /** Share in comparison to siblings, 1 to 10000, default 100. On v1 `cpu.shares` by the formula of runc and crun. */
  weight?: number;
  /** The same as a nice value, -20 to 19. v2 only. */
  weightNice?: number;
  /** Microseconds that may be saved up and used above `max`. */
  burstUs?: number;
  /** SCHED_IDLE for the whole group: only what others leave. Its weight cannot be set then. */
  idle?: boolean;
  /** Utilisation clamps of the frequency governor, percent. v2 only. */
  uclamp?: { min?: number; max?: number | 'max' };
  /** Real-time budget, microseconds. v1 only, and its parent needs one first. */
  rt?: { runtimeUs?: number; periodUs?: number };
}

/** See {@link Limits}. */
export interface CpusetLimits {
  /** Processors, for example `'0-3,8'`; `''` goes back to the parent's on v2. */
  cpus?: string;
  /** Memory nodes. */
  mems?: string;
  /** Processors for partitions below only. v2 since 6.7; on v1 use `cpuExclusive`. */
  exclusive?: string;
  /** v2 only. The kernel never refuses it but shows it as invalid: that is an error here, `invalidPartition`. */
  partition?: 'member' | 'root' | 'isolated';
  /** v1 only. */
  cpuExclusive?: boolean;
}

/** See {@link Limits}. */
export interface MemoryLimits {
  /** Where the OOM killer comes. It says nothing about swap: see `swap`. */
  max?: Bytes;
  /** Where allocations are slowed down and reclaimed; never kills. v2 only. */
  high?: Bytes;
  /** What reclaim spares where it can. On v1 `memory.soft_limit_in_bytes`. */
  low?: Bytes;
  /** What reclaim spares in any case. v2 only. */
  min?: Bytes;
  /** Swap alone, beside memory. On v1 converted to `memsw`, which needs `max`. `max: 0` is fine without swap accounting. */
  swap?: { max?: Bytes; high?: Bytes };
  /** The OOM killer ends all of the group. v2 only. */
  oomGroup?: boolean;
  /** Compressed swap. v2 only. */
  zswap?: { max?: Bytes; writeback?: boolean };
  /** 0 to 200. v1 only. */
  swappiness?: number;
  /** Processes wait instead of being killed. v1 only. */
  oomKillDisable?: boolean;
}

/** See {@link Limits}. */
export interface IoLimits {
  /**
   * Share in comparison to siblings, 1 to 10000, default 100; also by device. Written to the file that is there: `io.weight`, or
   * converted `io.bfq.weight`, `blkio.bfq.weight`, `blkio.weight` (10 to 1000).
   */
  weight?: number;
  deviceWeight?: readonly { device: Device; weight: number }[];
  /** Weight of the bfq scheduler as it is, 1 to 1000. */
  bfqWeight?: number;
  /** Throttles, bytes and operations a second. */
  max?: readonly {
    device: Device;
    rbps?: Bytes;
    wbps?: Bytes;
    riops?: number | 'max';
    wiops?: number | 'max';
  }[];
  /** Latency to protect, microseconds; 0 is none. v2 only. */
  latency?: readonly { device: Device; targetUs: number }[];
  /** Cost model and quality of service of the root group, as `key=value`. v2 only. */
  cost?: readonly {
    device: Device;
    qos?: Record<string, string | number>;
    model?: Record<string, string | number>;
  }[];
  /** v2 only. */
  prioClass?: 'no-change' | 'promote-to-rt' | 'restrict-to-be' | 'idle';
}
