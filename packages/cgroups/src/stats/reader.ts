import type { Controller } from '../controller.js';
import { E } from '../error.js';
import { hierarchyOf } from '../layout.js';
import type { Places } from '../places.js';
import type { CgroupDirectory } from '../raw/directory.js';
import { choice, list } from '../value.js';
import { cpuStats } from './cpu.js';
import { cpusetStats } from './cpuset.js';
import type { StatFile } from './file.js';
import { groupStats } from './group.js';
import { ioStats } from './io.js';
import { memoryStats, numaStats } from './memory.js';
import { StatFiles } from './open.js';
import { dmemStats, hugetlbStats, miscStats, pidsStats, rdmaStats } from './others.js';
import { pressureStats } from './pressure.js';
import { Round } from './round.js';
import type { Stats, StatsPart } from './stats.js';

/** Those with a part of their own in {@link Stats}. */
const parts = ['cpu', 'cpuset', 'memory', 'io', 'pids', 'hugetlb', 'rdma', 'misc', 'dmem'] as const;
const choices = [...parts, 'cgroup', 'pressure'] as const;

/** Reads a group's figures, again and again. */
export class Reader {
  readonly #places: Places;
  readonly #files = new Map<CgroupDirectory, StatFiles>();
  /** What each choice of parts reads, once it was read. */
  readonly #rounds = new Map<string, Round>();
  readonly #seen = new Set<StatFile>();
  #absent: Stats['absent'] | undefined;

  constructor(places: Places) {
    this.#places = places;
  }

  /** Reads parts; all where none are named. */
  read(only?: readonly StatsPart[]): Stats {
    for (const part of list(only, 'only')) choice(part, 'only', choices);
    const which = only ? only.join() : 'all';
    const round = this.#rounds.get(which);
    if (round?.read()) return this.#parts(only);
    for (const files of this.#files.values()) files.forget();
    this.#seen.clear();
    const stats = this.#parts(only);
    if (this.#seen.size === 0) this.#mustBeThere();
    this.#rounds.set(which, new Round(this.#seen));
    return stats;
  }

  #parts(only: readonly StatsPart[] | undefined): Stats {
    const wants = (part: StatsPart) => !only || only.includes(part);
    const of = (part: (typeof parts)[number]) => (wants(part) ? this.#of(part) : undefined);
    const read = <T>(files: StatFiles | undefined, stats: (files: StatFiles) => T) => files && stats(files);
    const { v2 } = this.#places;
    const unified = v2 && this.#filesOf(v2);
    return {
      atMs: performance.now(),
      cgroup: wants('cgroup') ? groupStats(unified, this.#of('freezer')) : undefined,
      cpu: wants('cpu') ? cpuStats(this.#cpu(), this.#of('cpuacct')) : undefined,
      cpuset: read(of('cpuset'), cpusetStats),
      memory: read(of('memory'), memoryStats),
      io: read(of('io'), ioStats),
      pids: read(of('pids'), pidsStats),
      hugetlb: read(of('hugetlb'), hugetlbStats),
      rdma: read(of('rdma'), rdmaStats),
      misc: read(of('misc'), miscStats),
      dmem: read(of('dmem'), dmemStats),
      pressure: wants('pressure') ? read(unified, pressureStats) : undefined,
      absent: (this.#absent ??= this.#why()),
    };
  }

  /** Of a group that is gone no file is there: it would be one without figures, for ever. */
  #mustBeThere(): void {
    const gone = this.#places.directories.find((directory) => !directory.has('cgroup.procs'));
    if (gone) throw gone.failure(-E.NODEV, 'open', 'cgroup.procs');
  }

  /** Memory by node. */
  numa(): Record<string, Record<string, number>> | undefined {
    const files = this.#of('memory');
    return files && numaStats(files);
  }

  /** Looks for files anew that were not there. */
  refresh(): void {
    this.close();
    this.#absent = undefined;
  }

  /** Closes the files. */
  close(): void {
    for (const files of this.#files.values()) files.close();
    this.#files.clear();
    this.#rounds.clear();
  }

  /** v2 counts CPU time without the controller. */
  #cpu(): StatFiles | undefined {
    const { v2, layout } = this.#places;
    return this.#of('cpu') ?? (v2 && hierarchyOf(layout, 'cpu')?.version === 2 ? this.#filesOf(v2) : undefined);
  }

  #of(controller: Controller): StatFiles | undefined {
    const directory = this.#places.of(controller);
    return directory && this.#filesOf(directory);
  }

  #filesOf(directory: CgroupDirectory): StatFiles {
    let files = this.#files.get(directory);
    if (!files) this.#files.set(directory, (files = new StatFiles(directory, this.#seen)));
    return files;
  }

  #why(): Stats['absent'] {
    const absent: Stats['absent'] = {};
    for (const controller of parts) {
      if (this.#places.of(controller)) continue;
      const hierarchy = hierarchyOf(this.#places.layout, controller);
      if (!hierarchy) absent[controller] = 'no hierarchy that is mounted here has this controller';
      else if (hierarchy.version === 1) absent[controller] = 'the group was made without this controller';
      else absent[controller] = 'the controller is not enabled in cgroup.subtree_control of the group above';
    }
    return absent;
  }
}
