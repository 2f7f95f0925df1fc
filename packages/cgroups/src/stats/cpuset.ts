import type { StatFiles } from './open.js';

/** Processors and memory nodes. */
export interface CpusetStats {
  /** As configured; empty is the parent's. */
  cpus: string | undefined;
  mems: string | undefined;
  cpusEffective: string | undefined;
  memsEffective: string | undefined;
  exclusive: string | undefined;
  exclusiveEffective: string | undefined;
  partition: { kind: string; valid: boolean; reason: string | undefined } | undefined;
  /** Of the root: processors in isolated partitions. */
  isolated: string | undefined;
  /** v1's switches. */
  legacy: LegacyCpuset | undefined;
}

/** Files of v1's cpuset that v2 has no twin of. */
export interface LegacyCpuset {
  cpuExclusive: boolean | undefined;
  memExclusive: boolean | undefined;
  memHardwall: boolean | undefined;
  memoryMigrate: boolean | undefined;
  memoryPressure: number | undefined;
  spreadPage: boolean | undefined;
  spreadSlab: boolean | undefined;
  schedLoadBalance: boolean | undefined;
  schedRelaxDomainLevel: number | undefined;
}

/** Reads the cpuset. */
export function cpusetStats(files: StatFiles): CpusetStats {
  const text = (name: string) => files.file(`cpuset.${name}`).text();
  const v1 = files.version === 1;
  return {
    cpus: text('cpus'),
    mems: text('mems'),
    cpusEffective: text(v1 ? 'effective_cpus' : 'cpus.effective'),
    memsEffective: text(v1 ? 'effective_mems' : 'mems.effective'),
    exclusive: v1 ? undefined : text('cpus.exclusive'),
    exclusiveEffective: v1 ? undefined : text('cpus.exclusive.effective'),
    partition: v1 ? undefined : parsePartition(text('cpus.partition')),
    isolated: v1 ? undefined : text('cpus.isolated'),
    legacy: v1 ? legacy(files) : undefined,
  };
}

function legacy(files: StatFiles): LegacyCpuset {
  const flag = (name: string) => files.file(`cpuset.${name}`).flag();
  return {
    cpuExclusive: flag('cpu_exclusive'),
    memExclusive: flag('mem_exclusive'),
    memHardwall: flag('mem_hardwall'),
    memoryMigrate: flag('memory_migrate'),
    memoryPressure: files.file('cpuset.memory_pressure').number(),
    spreadPage: flag('memory_spread_page'),
    spreadSlab: flag('memory_spread_slab'),
    schedLoadBalance: flag('sched_load_balance'),
    schedRelaxDomainLevel: files.file('cpuset.sched_relax_domain_level').number(),
  };
}

/** `root invalid (Cpu list in cpuset.cpus not exclusive)` */
function parsePartition(text: string | undefined): CpusetStats['partition'] {
  if (text === undefined) return undefined;
  const [, kind = text, reason] = /^(\w+) invalid(?: \((.*)\))?$/.exec(text) ?? [];
  return { kind, valid: kind === text, reason };
}
