import { readdirSync, readFileSync } from 'node:fs';
import { invalid, type LaunchProgram, O, type Part, UnsupportedError } from '@iso/sys';
import type { Controller } from './controller.js';
import { attachedDevices, type DeviceProgram } from './devices/attach.js';
import { CgroupError, E } from './error.js';
import { type CgroupEvent, type EventOptions, watchEvents } from './events/events.js';
import { openPressure, type PressureOptions, type PressureTrigger } from './events/pressure.js';
import { freeze, isFreezing, thaw, type WaitOptions } from './freeze.js';
import { identity, ownerIsDead } from './identity.js';
import { kill, membersOf, pidsIn } from './kill.js';
import { detect, type Hierarchy, type Layout } from './layout.js';
import { apply } from './limits/apply.js';
import type { Limits } from './limits/limits.js';
import { type PlanOptions, plan, type Write } from './limits/plan.js';
import { bytes } from './limits/value.js';
import { makePlaces, wanted } from './make.js';
import { moveAll, moveProcess, moveThread } from './move.js';
import { checkName, Places, pathNames } from './places.js';
import type { CgroupDirectory } from './raw/directory.js';
import { removeDirectory } from './remove.js';
import { belowUsage, reclaim, shrink } from './shrink.js';
import { openPeak, type PeakWindow } from './stats/peak.js';
import { Reader } from './stats/reader.js';
import type { Stats, StatsPart } from './stats/stats.js';

/** Where a cgroup goes, and what it starts with. */
export interface CreateOptions {
  limits?: Limits;
  /**
   * Controllers that the group must have, beside those that `limits` name: enabled from the top of v2 down, joined on v1.
   * Default: cpu, memory, pids and io where they are to be had. `[]`: those of the limits alone.
   */
  controllers?: readonly Controller[];
  /** The group above: a path below the top of each hierarchy (default `iso`), or a group, for example a delegated one. */
  parent?: string | Cgroup;
  /** The machine's hierarchies, from {@link detect}; narrower where only a part of them is to be used. */
  layout?: Layout;
  /** The group takes single threads of processes that are in its parent (v2; v1's groups always do). */
  threaded?: boolean;
  /** What to do about limits that the machine's version has no twin of; default `throw`. */
  onUnsupported?: 'throw' | 'ignore';
}

/** How {@link Cgroup.set} sets. */
export interface SetOptions extends WaitOptions {
  /** What to do about limits that the machine's version has no twin of; default `throw`. */
  onUnsupported?: 'throw' | 'ignore';
  /**
   * A memory limit below what is used: `refuse` it (default), `reclaim` until it fits, or `force` it, by which v2 kills. v1 never
   * kills, but refuses what it cannot reclaim.
   */
  lowering?: 'refuse' | 'reclaim' | 'force';
}

const PARENT = 'iso';

/**
 * A cgroup: one directory on v2, one in each hierarchy on v1 and hybrid machines, each held by a descriptor. A part of a
 * launch: the process is born in it. Disposing kills what runs in it, waits until it is empty, and removes it.
 *
 * @example
 * ```ts root
 * import { Cgroup } from '@iso/cgroups';
 * const job = await Cgroup.create(`example-${process.pid}`, { limits: { pids: { max: 10 } } });
 * if (job.stats().pids?.max !== 10) throw new Error('no limit');
 * await job.remove();
 * ```
 */
export class Cgroup implements AsyncDisposable, Disposable, Part {
  /** Its name: the last part of its path. */
  readonly name: string;
  readonly #places: Places;
  readonly #reader: Reader;
  #removed = false;

  private constructor(name: string, places: Places) {
    this.name = name;
    this.#places = places;
    this.#reader = new Reader(places);
  }

  /**
   * Creates a group and sets its limits. The name gets this process's identity, so that {@link Cgroup.sweep} finds it once
   * this process is dead. Where something is refused nothing of the group stays.
   *
   * @param name - letters, digits, `_`, `.`, `-`, `@`, `:`, `+`
   * @param options - limits, parent
   * @returns the group
   * @throws CgroupError `notDelegated`, `readOnly`, `exists`, `internalProcess`, or what {@link Cgroup.set} throws; UnsupportedError for
   * controllers that the machine has not; `TypeError` for bad names and limits
   */
  static async create(name: string, options: CreateOptions = {}): Promise<Cgroup> {
    checkName(name);
    if (options.parent instanceof Cgroup) return options.parent.create(`${name}@${identity(process.pid)}`, options);
    const layout = options.layout ?? recent();
    const parent = pathNames(options.parent ?? PARENT, layout).join('/');
    return Cgroup.#make(`${name}@${identity(process.pid)}`, layout, () => parent, options);
  }

  /**
   * Opens a group that is there.
   *
   * @param path - below the top of each hierarchy (`iso/job`), or absolute below one of the mounts
   * @param options - `layout`: from {@link detect}
   * @returns the group, in every hierarchy that has it
   * @throws CgroupError `removed` where none has it; `TypeError` for paths with `..`
   */
  static async open(path: string, options: { layout?: Layout } = {}): Promise<Cgroup> {
    const layout = options.layout ?? detect();
    const names = pathNames(path, layout);
    return Cgroup.#open(layout, () => names.join('/'), path);
  }

  /**
   * Opens the group that a process is in, in each hierarchy.
   *
   * @param pid - default this process
   * @param options - `layout`: from {@link detect}
   * @returns the group; the paths may differ between v1 hierarchies
   * @throws CgroupError `noSuchProcess`
   */
  static async of(pid: number | 'self' = 'self', options: { layout?: Layout } = {}): Promise<Cgroup> {
    const layout = options.layout ?? detect();
    const path = `${layout.root === '/' ? '' : layout.root}/proc/${pid}/cgroup`;
    let cgroup: string;
    try {
      cgroup = readFileSync(path, 'latin1');
    } catch (error) {
      throw new CgroupError(E.SRCH, { syscall: 'open', path, reason: 'noSuchProcess', cause: error });
    }
    const own = detect({ root: layout.root, cgroup }).hierarchies;
    return Cgroup.#open(layout, ({ mount }) => own.find((one) => one.mount === mount)?.own, path);
  }

  /**
   * Removes the groups of processes that are dead, with all that is in them: what a killed process left.
   *
   * @param options - `parent` and `layout` as for {@link Cgroup.create}
   * @returns names of those removed
   */
  static async sweep(options: { parent?: string; layout?: Layout } = {}): Promise<string[]> {
    const layout = options.layout ?? detect();
    const parent = pathNames(options.parent ?? PARENT, layout).join('/');
    const dead = new Set<string>();
    for (const { mount } of layout.hierarchies) {
      for (const name of list(`${mount}/${parent}`)) if (ownerIsDead(name)) dead.add(name);
    }
    for (const name of dead) {
      const places = Places.open(layout, () => `${parent}/${name}`);
      await new Cgroup(name, places)[Symbol.asyncDispose]();
    }
    return [...dead];
  }

  static #make(
    name: string,
    layout: Layout,
    parentOf: (hierarchy: Hierarchy) => string | undefined,
    { limits = {}, controllers, threaded = false, onUnsupported }: CreateOptions,
  ): Cgroup {
    // Judged before anything exists.
    const dry = Places.open(layout, () => undefined);
    plan(limits, planning(dry, undefined, onUnsupported));
    const places = makePlaces(layout, parentOf, name, { ...wanted(controllers, Object.keys(limits)), threaded });
    try {
      // A new group's limits are the kernel's defaults; which files it has for I/O is the machine's.
      const io = (directory: CgroupDirectory, file: string) =>
        file.endsWith('weight') ? directory.read(file) : undefined;
      apply(plan(limits, planning(places, io, onUnsupported)), ({ controller }) => places.homeOf(controller), true);
    } catch (error) {
      for (const directory of places.directories) directory.remove();
      places[Symbol.dispose]();
      throw error;
    }
    return new Cgroup(name, places);
  }

  static #open(layout: Layout, pathOf: (hierarchy: Hierarchy) => string | undefined, path: string): Cgroup {
    const places = Places.open(layout, pathOf);
    if (places.directories.length === 0) {
      throw new CgroupError(E.NOENT, { syscall: 'open', path, reason: 'removed', hint: 'there is no such group' });
    }
    const longest = places.directories.map((directory) => places.nameOf(directory)).find((name) => name !== '');
    return new Cgroup(longest ?? '', places);
  }

  /**
   * Creates a group below this one.
   *
   * @param name - taken as it is
   * @param options - as for {@link Cgroup.create}
   * @returns the group
   * @throws CgroupError as {@link Cgroup.create}; `internalProcess` where this one has processes and the child needs v2 controllers
   */
  async create(name: string, options: Omit<CreateOptions, 'parent' | 'layout'> = {}): Promise<Cgroup> {
    checkName(name);
    this.#live();
    return Cgroup.#make(name, this.#places.layout, (hierarchy) => this.#places.pathIn(hierarchy), options);
  }

  /**
   * Opens a group below this one.
   *
   * @param name - of a direct child
   * @returns the group
   * @throws CgroupError `removed` where there is none
   */
  async open(name: string): Promise<Cgroup> {
    checkName(name);
    const { layout } = this.#places;
    return Cgroup.#open(
      layout,
      (hierarchy) => {
        const path = this.#places.pathIn(hierarchy);
        return path === undefined ? undefined : `${path}/${name}`;
      },
      name,
    );
  }

  /** Names of the groups right below it. */
  children(): string[] {
    return [...new Set(this.#places.directories.flatMap((directory) => directory.children()))];
  }

  /**
   * Its directory for a controller.
   *
   * @param controller - which; default the v2 tree, or where there is none the first v1 hierarchy that it is in
   * @returns the path, undefined where it has not got that controller
   */
  path(controller?: Controller): string | undefined {
    return this.#places.of(controller ?? 'cgroup')?.path;
  }

  /** The kernel's number of it, by which nftables and BPF know it: the inode of its v2 directory. */
  get id(): bigint | undefined {
    return this.#places.v2?.inode;
  }

  /** Controllers that count and limit it here. */
  get controllers(): Controller[] {
    const { hierarchies } = this.#places.layout;
    const all = new Set(hierarchies.flatMap((hierarchy) => hierarchy.controllers));
    return [...all].filter((controller) => this.#places.of(controller) !== undefined);
  }

  /** Processes in it, as this pid namespace numbers them. */
  get pids(): number[] {
    const directory = this.#places.v2 ?? this.#places.of('pids') ?? this.#places.directories[0];
    return directory ? pidsIn(directory).filter((pid) => pid !== 0) : [];
  }

  /** Processes in it and below it, in any of its hierarchies. */
  get allPids(): number[] {
    return membersOf(this.#places).filter((pid) => pid !== 0);
  }

  /**
   * Threads in it, where a controller of its own counts them.
   *
   * @param controller - in whose hierarchy; default the first
   */
  tids(controller?: Controller): number[] {
    const directory = controller ? this.#places.homeOf(controller) : this.#places.directories[0];
    if (!directory) return [];
    return pidsIn(directory, directory.version === 1 ? 'tasks' : 'cgroup.threads');
  }

  /**
   * The writes that {@link Cgroup.set} would do, in order; nothing is written.
   *
   * @param limits - new limits
   * @param options - `onUnsupported`
   * @returns writes
   * @throws what {@link plan} throws
   */
  plan(limits: Limits, options: Pick<SetOptions, 'onUnsupported'> = {}): Write[] {
    this.#live();
    const read = (directory: CgroupDirectory, file: string) => directory.read(file);
    return plan(limits, planning(this.#places, read, options.onUnsupported));
  }

  /**
   * Sets limits; what is not named stays. Each write is read back; where one is refused, those before it are undone.
   *
   * @param limits - new limits
   * @param options - what to do about memory limits below the use
   * @throws CgroupError `belowUsage`, `controllerNotEnabled`, `invalidValue`, `notApplied`, `noSuchDevice`, `notDelegated`, `removed`;
   * UnsupportedError; `TypeError` for limits that are none
   */
  async set(limits: Limits, options: SetOptions = {}): Promise<void> {
    this.plan(limits, options);
    const max = limits.memory?.max === undefined ? 'max' : bytes(limits.memory.max, 'memory.max');
    if (max !== 'max') await this.#makeRoom(max, options);
    apply(this.plan(limits, options), ({ controller }) => this.#places.homeOf(controller));
    this.#reader.refresh();
  }

  async #makeRoom(max: number, { lowering = 'refuse', ...options }: SetOptions): Promise<void> {
    const memory = this.#places.homeOf('memory');
    const used = Number(memory.read(memory.version === 2 ? 'memory.current' : 'memory.usage_in_bytes') ?? 0);
    if (used <= max || lowering === 'force') return;
    if (lowering === 'refuse') throw belowUsage(memory, max, used);
    if (lowering !== 'reclaim') throw invalid(`lowering must be refuse, reclaim or force, not ${String(lowering)}`);
    await shrink(memory, max, options);
  }

  /**
   * Takes memory back now: caches are dropped, anonymous memory swapped out. v2 since Linux 5.19.
   *
   * @param amount - bytes, or text with a suffix
   * @returns whether so much went
   */
  reclaim(amount: number | string): boolean {
    const number = bytes(amount, 'amount');
    if (number === 'max') throw invalid('amount must be a number of bytes');
    const directory = this.#places.homeOf('memory');
    if (!directory.has('memory.reclaim'))
      throw new UnsupportedError('memory.reclaim', 'no such file', { since: '5.19' });
    return reclaim(directory, number);
  }

  /**
   * What it uses now. The files stay open for the next time.
   *
   * @param options - `only`: the parts to read; default all
   * @returns figures of the controllers that are there
   * @throws CgroupError `removed`
   */
  stats(options: { only?: readonly StatsPart[] } = {}): Stats {
    this.#live();
    return this.#reader.read(options.only);
  }

  /** Memory by node, from `memory.numa_stat`. v1 counts pages, v2 bytes. */
  numaStats(): Record<string, Record<string, number>> | undefined {
    this.#live();
    return this.#reader.numa();
  }

  /**
   * A control file as it is, for what this package has no word for.
   *
   * @param file - `cpu.max`
   * @returns its text without the last newline; undefined where there is none
   */
  read(file: string): string | undefined {
    this.#live();
    return this.#directoryOf(file).read(file);
  }

  /**
   * Writes a control file as it is, in one write; nothing is read back.
   *
   * @param file - `cpu.max`
   * @param value - text
   */
  write(file: string, value: string): void {
    this.#live();
    this.#directoryOf(file).write(file, value);
  }

  #directoryOf(file: string): CgroupDirectory {
    if (!/^[\w.]+$/.test(file)) throw invalid(`not the name of a control file: ${JSON.stringify(file)}`);
    const prefix = file.split('.')[0] === 'blkio' ? 'io' : (file.split('.')[0] as Controller);
    return this.#places.of(prefix) ?? this.#places.homeOf('cgroup');
  }

  /** The process is born in it. */
  confine(program: LaunchProgram): void {
    this.#live();
    for (const directory of this.#places.v1) {
      // Not cgroup.procs: for the one thread that writes 0 here, the kernel takes no machine-wide lock, which waits for RCU.
      const tasks = directory.openFd('tasks', O.WRONLY);
      program.defer(() => tasks.close());
      program.step('birth', 'write', [tasks, '0', 1], { text: `write(${directory.path}/tasks, "0")` });
    }
    if (this.#places.v2) program.cgroup(this.#places.v2.fd);
    if (this.frozen) program.mayBlock();
  }

  /**
   * Moves a process with all its threads into it. Prefer to let it be born here: what it forked before stays outside, and the
   * move stops every fork of the machine for some milliseconds.
   *
   * @param pid - as this pid namespace numbers it
   * @throws CgroupError `noSuchProcess`, `internalProcess`, `threaded`, `notDelegated`; it is where it was then
   */
  async move(pid: number): Promise<void> {
    this.#live();
    await moveProcess(this.#places, pid);
  }

  /**
   * Moves one thread into it, for example of a `worker_threads` Worker, which learns its number by `gettid`. v2: the group is
   * {@link CreateOptions.threaded}, below one that the thread's process is in.
   *
   * @param tid - thread id
   * @throws CgroupError `threaded`, `noSuchProcess`
   */
  async moveThread(tid: number): Promise<void> {
    this.#live();
    await moveThread(this.#places, tid);
  }

  /**
   * Moves every process of another group into it, and those that they fork meanwhile.
   *
   * @param from - the other group; those below it stay
   */
  async moveAll(from: Cgroup): Promise<void> {
    this.#live();
    await moveAll(from.#places, this.#places);
  }

  /** Whether it stands still, or was told to. */
  get frozen(): boolean {
    return isFreezing(this.#places);
  }

  /**
   * Stops everything in it, without a signal, and waits until it stands still.
   *
   * @param options - `signal`, `timeoutMs` (default 10,000)
   * @throws CgroupError `busy` where it does not; it runs on then
   */
  async freeze(options: WaitOptions = {}): Promise<void> {
    this.#live();
    await freeze(this.#places, options);
  }

  /**
   * Lets everything in it go on, and waits until it does; an ancestor that is frozen still holds it.
   *
   * @param options - `signal`, `timeoutMs` (default 10,000)
   */
  async thaw(options: WaitOptions = {}): Promise<void> {
    this.#live();
    await thaw(this.#places, options);
  }

  /**
   * Kills every process in it and below it, and waits until it is empty, whatever they fork meanwhile. Frozen ones too.
   *
   * @param options - `signal`, `timeoutMs` (default 10,000)
   * @throws CgroupError `busy` where something survives; `threaded` for a threaded v2 group
   */
  async kill(options: WaitOptions = {}): Promise<void> {
    this.#live();
    await kill(this.#places, options);
  }

  /**
   * What happens to it, as it happens: see {@link CgroupEvent}. Ends when the group is removed, or the signal says so.
   *
   * @param options - which events; `signal`
   * @returns an endless iterable; leaving the loop closes it
   */
  events(options: EventOptions = {}): AsyncIterableIterator<CgroupEvent> {
    this.#live();
    return watchEvents(this.#places, options);
  }

  /**
   * Tells when its tasks stand still for a resource for too long, by a pressure trigger of the kernel. v2 or hybrid.
   *
   * @param resource - `cpu`, `memory`, `io` or `irq`
   * @param options - threshold and window
   * @returns an iterable of what was lost since the last time; dispose it, or leave the loop
   * @throws UnsupportedError where pressure accounting is off; CgroupError `invalidValue`, with a hint on windows without privilege
   */
  pressure(resource: 'cpu' | 'memory' | 'io' | 'irq', options: PressureOptions): PressureTrigger {
    this.#live();
    return openPressure(this.#places.v2, resource, options);
  }

  /**
   * The highest use of memory from now on, by a reset of `memory.peak` for this descriptor alone (Linux 6.12); on v1 of
   * `memory.max_usage_in_bytes` for everybody.
   *
   * @param of - memory, or swap
   * @returns the window; dispose it
   * @throws UnsupportedError where the kernel cannot reset it
   */
  peakWindow(of: 'memory' | 'swap' = 'memory'): PeakWindow {
    this.#live();
    return openPeak(this.#places.homeOf('memory'), of);
  }

  /** BPF programs that judge the use of devices, attached to it; none on v1. */
  devicePrograms(): DeviceProgram[] {
    const directory = this.#places.of('devices');
    return directory?.version === 2 ? attachedDevices(directory) : [];
  }

  /**
   * Removes it; it must be empty. Waits for processes that are just ending.
   *
   * @param options - `recursive`: first those below it
   * @throws CgroupError `busy` where processes or groups below it stay
   */
  async remove(options: { recursive?: boolean } = {}): Promise<void> {
    if (this.#removed) return;
    this.#reader.close();
    for (const directory of this.#places.directories) await removeDirectory(directory, options.recursive ?? false);
    this.#removed = true;
    this.#places[Symbol.dispose]();
  }

  /** Closes its descriptors; the group stays. */
  [Symbol.dispose](): void {
    this.#reader.close();
    this.#places[Symbol.dispose]();
    this.#removed = true;
  }

  /** Kills, waits until it is empty, removes it with all below it; again does nothing. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#removed) return;
    await this.kill();
    await this.remove({ recursive: true });
  }

  #live(): void {
    if (!this.#removed) return;
    throw new CgroupError(E.NOENT, {
      syscall: 'open',
      path: this.name,
      reason: 'removed',
      hint: 'this handle was closed',
    });
  }
}

/** Mounts of hierarchies hardly ever change, and reading their table costs as much as making a directory. */
let seen: { layout: Layout; atMs: number } | undefined;

function recent(): Layout {
  const now = performance.now();
  if (!seen || now - seen.atMs > 1000) seen = { layout: detect(), atMs: now };
  return seen.layout;
}

function planning(
  places: Places,
  read: ((directory: CgroupDirectory, file: string) => string | undefined) | undefined,
  onUnsupported: 'throw' | 'ignore' | undefined,
): PlanOptions {
  return {
    version: (controller) => places.versionOf(controller),
    ...(read
      ? {
          read: (controller, file) => {
            const directory = places.of(controller);
            return directory && read(directory, file);
          },
        }
      : {}),
    ...(onUnsupported ? { onUnsupported } : {}),
  };
}

function list(path: string): string[] {
  try {
    return readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch {
    return [];
  }
}
