import type { Controller } from '../controller.js';
import type { CpuStats } from './cpu.js';
import type { CpusetStats } from './cpuset.js';
import type { GroupStats } from './group.js';
import type { IoStats } from './io.js';
import type { MemoryStats } from './memory.js';
import type { DmemStats, HugetlbStats, MiscStats, PidsStats, RdmaStats } from './others.js';
import type { PressureStats } from './pressure.js';

/** A part of {@link Stats}. */
export type StatsPart =
  | 'cgroup'
  | 'cpu'
  | 'cpuset'
  | 'memory'
  | 'io'
  | 'pids'
  | 'hugetlb'
  | 'rdma'
  | 'misc'
  | 'dmem'
  | 'pressure';

/**
 * What a group uses and how it is limited. A part is undefined where its controller is not there ({@link Stats.absent} says
 * why), a field where the kernel has no such figure: never 0 for "not there". Bytes and microseconds are numbers; every
 * counter is of the group with all below it, unless its name says `local`.
 */
export interface Stats {
  /** When, in milliseconds of `performance.now()`. */
  atMs: number;
  cgroup: GroupStats | undefined;
  cpu: CpuStats | undefined;
  cpuset: CpusetStats | undefined;
  memory: MemoryStats | undefined;
  io: IoStats | undefined;
  pids: PidsStats | undefined;
  hugetlb: HugetlbStats | undefined;
  rdma: RdmaStats | undefined;
  misc: MiscStats | undefined;
  dmem: DmemStats | undefined;
  /** Pressure stall information; v2 only. */
  pressure: PressureStats | undefined;
  /** Why a controller's part is undefined. */
  absent: Partial<Record<Controller, string>>;
}
