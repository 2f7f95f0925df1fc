/**
 * cgroups v1, v2 and hybrid.
 *
 * @packageDocumentation
 */
export { Cgroup } from './cgroup.js';
export { type Controller, controllerNamed, type Version } from './controller.js';
export { type Delegation, delegate, findDelegated, openDelegated } from './delegation.js';
export type { DeviceProgram } from './devices/attach.js';
export type { DeviceRule } from './devices/rule.js';
export { CgroupError, type CgroupErrorFields, type Reason } from './error.js';
export type { CgroupEvent, EventOptions } from './events/events.js';
export type { PressureEvent, PressureOptions, PressureTrigger } from './events/pressure.js';
export {
  type DetectOptions,
  detect,
  type Hierarchy,
  hierarchyOf,
  type Layout,
  onlyVersion,
  parseProcCgroup,
} from './layout.js';
export { blkioToIoWeight, ioToBlkioWeight, memswToSwap, sharesToWeight, weightToShares } from './limits/convert.js';
export type { Bytes, CpuLimits, CpusetLimits, Device, IoLimits, Limits, MemoryLimits } from './limits/limits.js';
export { fromOCI, type OciResources, type OciThrottle, toOCI } from './limits/oci.js';
export { type PlanOptions, plan, type Shape, type Write } from './limits/plan.js';
export type { CreateOptions, SetOptions } from './options.js';
export type { CpuStats } from './stats/cpu.js';
export type { CpusetStats, LegacyCpuset } from './stats/cpuset.js';
export type { Counters } from './stats/file.js';
export type { GroupStats } from './stats/group.js';
export type { DeviceIo, IoStats } from './stats/io.js';
export type { LegacyLimit, LegacyMemory, MemoryEvents, MemoryStat, MemoryStats } from './stats/memory.js';
export type {
  DmemStats,
  HugetlbPages,
  HugetlbStats,
  MiscStats,
  PidsStats,
  RdmaResources,
  RdmaStats,
} from './stats/others.js';
export type { PeakWindow } from './stats/peak.js';
export type { Pressure, PressureStats, Stall } from './stats/pressure.js';
export { type Rates, rates, sample } from './stats/sampler.js';
export type { Stats, StatsPart } from './stats/stats.js';
export type { Manager } from './systemd/address.js';
export { Scope, type ScopeOptions } from './systemd/scope.js';
export type { WaitOptions } from './wait.js';
