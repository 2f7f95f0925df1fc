import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { type Cgroup, rates, type Stats, type StatsPart } from '@iso/cgroups';
import { openCgroup } from './control.js';
import type { LiveContainer } from './state/record.js';
import { size } from './table.js';

const parts: readonly StatsPart[] = ['cpu', 'memory', 'pids', 'io'];

/** What a running container uses, in docker's words; looked at again and again. */
export class Usage implements Disposable {
  readonly name: string;
  readonly #pid: number;
  readonly #cgroup: Cgroup | undefined;
  #before: Stats | undefined;

  private constructor({ name, pid }: LiveContainer, cgroup: Cgroup | undefined) {
    this.name = name;
    this.#pid = pid;
    this.#cgroup = cgroup;
    this.#before = cgroup?.stats({ only: parts });
  }

  /**
   * Opens it.
   *
   * @param container - its record; one without a cgroup has nothing that is counted
   * @throws CgroupError `removed` where it has ended
   */
  static async open(container: LiveContainer): Promise<Usage> {
    return new Usage(container, container.cgroup === undefined ? undefined : await openCgroup(container));
  }

  /**
   * Processor time since the last time, the rest as it is now; what is not counted is `--`.
   *
   * @throws CgroupError `removed` where it has ended
   */
  read(): Record<'CPUPerc' | 'MemUsage' | 'MemPerc' | 'NetIO' | 'BlockIO' | 'PIDs', string> {
    const now = this.#cgroup?.stats({ only: parts });
    const cores = now && this.#before && rates(this.#before, now).cpu?.cores;
    this.#before = now;
    const { memory, pids, io } = now ?? {};
    const limit = Math.min(memory?.max === 'max' ? Number.POSITIVE_INFINITY : (memory?.max ?? 0), totalmem());
    const used = memory?.workingSet;
    const devices = Object.values(io?.devices ?? {});
    const sum = (key: 'rbytes' | 'wbytes') => devices.reduce((all, device) => all + (device[key] ?? 0), 0);
    return {
      CPUPerc: percent(cores),
      MemUsage: used === undefined ? '-- / --' : `${binary(used)} / ${binary(limit)}`,
      MemPerc: percent(used === undefined ? undefined : used / limit),
      NetIO: this.#network(),
      BlockIO: io ? `${size(sum('rbytes'))} / ${size(sum('wbytes'))}` : '-- / --',
      PIDs: pids?.current === undefined ? '--' : String(pids.current),
    };
  }

  /** As its own network counts. */
  #network(): string {
    let text: string;
    try {
      text = readFileSync(`/proc/${this.#pid}/net/dev`, 'utf8');
    } catch {
      return '-- / --';
    }
    const rows = text.split('\n').flatMap((line) => {
      const [, name, numbers = ''] = /^\s*(\S+):\s*(.*)$/.exec(line) ?? [];
      return name === undefined || name === 'lo' ? [] : [numbers.split(/\s+/).map(Number)];
    });
    const sum = (column: number) => rows.reduce((all, row) => all + (row[column] ?? 0), 0);
    return `${size(sum(0))} / ${size(sum(8))}`;
  }

  /** Closes it. */
  [Symbol.dispose](): void {
    this.#cgroup?.[Symbol.dispose]();
  }
}

const percent = (part: number | undefined) => (part === undefined ? '--' : `${(part * 100).toFixed(2)}%`);
/** Four digits and a binary unit, as docker writes memory. */
function binary(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let value = bytes;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${Number(value.toPrecision(4))}${units[unit]}`;
}
