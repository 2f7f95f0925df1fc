import { invalid, type LaunchProgram, type Part } from '@iso/sys';
import { bornIn } from './born.js';
import type { Controller } from './controller.js';
import { createPlaces } from './create.js';
import { attachedDevices, type DeviceProgram } from './devices/attach.js';
import { CgroupError, E } from './error.js';
import { type CgroupEvent, type EventOptions, watchEvents } from './events/events.js';
import { openPressure, type PressureOptions, type PressureTrigger } from './events/pressure.js';
import { namesOfTheDead, openPlaces, placesOf, recent } from './find.js';
import { freeze, isFreezing, thaw } from './freeze.js';
import { ownIdentity } from './identity.js';
import { kill, membersOf, pidsIn } from './kill.js';
import { detect, type Layout } from './layout.js';
import type { Limits } from './limits/limits.js';
import type { Write } from './limits/plan.js';
import { moveAll, moveProcess, moveThread } from './move.js';
import { type CreateOptions, checkCreate, checkSet, checkUnsupported, checkWait, type SetOptions } from './options.js';
import { checkName, Places, pathNames } from './places.js';
import type { CgroupDirectory } from './raw/directory.js';
import { getXattr, setXattr, xattrNames } from './raw/xattr.js';
import { removeDirectory } from './remove.js';
import { planIn, setIn } from './set.js';
import { reclaimNow } from './shrink.js';
import { openPeak, type PeakWindow } from './stats/peak.js';
import { Reader } from './stats/reader.js';
import type { Stats, StatsPart } from './stats/stats.js';
import { onlyKeys, shown } from './value.js';
import type { WaitOptions } from './wait.js';

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
  /** Closed: gone, or left alone. */
  #removed = false;
  #gone = false;
  #removing: Promise<void> | undefined;

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
    checkCreate(options);
    const { parent = PARENT, layout: given, ...rest } = options;
    const own = `${name}@${ownIdentity()}`;
    if (parent instanceof Cgroup) {
      if (given) throw invalid('a group that is the parent has its own layout');
      return parent.create(own, rest);
    }
    const layout = given ?? recent();
    const path = pathNames(parent, layout).join('/');
    return new Cgroup(
      own,
      createPlaces(own, layout, () => path, rest),
    );
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
    onlyKeys(options, 'the options of open', ['layout']);
    const layout = options.layout ?? detect();
    const names = pathNames(path, layout);
    return Cgroup.#of(openPlaces(layout, () => names.join('/'), path));
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
    onlyKeys(options, 'the options of of', ['layout']);
    return Cgroup.#of(placesOf(pid, options.layout ?? detect()));
  }

  /**
   * Removes the groups of processes that are dead, with all that is in them: what a killed process left.
   *
   * @param options - `parent` and `layout` as for {@link Cgroup.create}
   * @returns names of those removed
   */
  static async sweep(options: { parent?: string; layout?: Layout } = {}): Promise<string[]> {
    onlyKeys(options, 'the options of sweep', ['parent', 'layout']);
    const layout = options.layout ?? detect();
    const parent = pathNames(options.parent ?? PARENT, layout).join('/');
    const dead = namesOfTheDead(parent, layout);
    for (const name of dead) {
      const places = Places.open(layout, () => `${parent}/${name}`);
      await new Cgroup(name, places)[Symbol.asyncDispose]();
    }
    return dead;
  }

  static #of({ name, places }: { name: string; places: Places }): Cgroup {
    return new Cgroup(name, places);
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
    checkCreate(options, true);
    this.#live();
    const { layout } = this.#places;
    return new Cgroup(
      name,
      createPlaces(name, layout, (hierarchy) => this.#places.pathIn(hierarchy), options),
    );
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
    this.#live();
    const pathOf: Parameters<typeof openPlaces>[1] = (hierarchy) => {
      const path = this.#places.pathIn(hierarchy);
      return path === undefined ? undefined : `${path}/${name}`;
    };
    return Cgroup.#of(openPlaces(this.#places.layout, pathOf, name));
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

  /** The machine's hierarchies, as it was made or opened in them. */
  get layout(): Layout {
    return this.#places.layout;
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
    onlyKeys(options, 'the options of plan', ['onUnsupported']);
    checkUnsupported(options);
    return planIn(this.#places, limits, options);
  }

  /**
   * Sets limits; what is not named stays. Each write is read back; where one is refused, those before it are undone.
   *
   * @param limits - new limits
   * @param options - what to do about memory limits below the use: {@link SetOptions}
   * @throws CgroupError `belowUsage`, `controllerNotEnabled`, `invalidValue`, `notApplied`, `noSuchDevice`, `notDelegated`, `removed`;
   * UnsupportedError; `TypeError` for limits that are none
   */
  async set(limits: Limits, options: SetOptions = {}): Promise<void> {
    this.#live();
    checkSet(options);
    await setIn(this.#places, limits, options);
    this.#reader.refresh();
  }

  /**
   * Takes memory back now: caches are dropped, anonymous memory swapped out. v2 since Linux 5.19.
   *
   * @param amount - bytes, or text with a suffix
   * @returns whether so much went
   */
  reclaim(amount: number | string): boolean {
    this.#live();
    return reclaimNow(this.#places.homeOf('memory'), amount);
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
    onlyKeys(options, 'the options of stats', ['only']);
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
    if (typeof value !== 'string') throw invalid(`what is written to ${file} must be text`);
    this.#directoryOf(file).write(file, value);
  }

  /**
   * Extended attributes of its directory, in which programs leave notes for each other: systemd's `user.delegate`, `trusted.delegate`,
   * oomd's `user.oomd_avoid`. On v2, or where there is none in the first v1 hierarchy. See xattr(7).
   *
   * @returns every one that this user may see
   * @throws UnsupportedError where the hierarchy has none
   */
  xattrs(): Record<string, Buffer> {
    this.#live();
    const directory = this.#places.homeOf('cgroup');
    return Object.fromEntries(
      xattrNames(directory).flatMap((name) => {
        const value = getXattr(directory, name);
        return value ? [[name, value]] : [];
      }),
    );
  }

  /**
   * One of {@link Cgroup.xattrs}.
   *
   * @param name - `user.NAME`, `trusted.NAME`, `security.NAME`
   * @returns its bytes; undefined where there is none
   */
  xattr(name: string): Buffer | undefined {
    this.#live();
    return getXattr(this.#places.homeOf('cgroup'), name);
  }

  /**
   * Sets an extended attribute of its directory. Needs write access to it; for `trusted.` CAP_SYS_ADMIN.
   *
   * @param name - `user.NAME`, `trusted.NAME`, `security.NAME`
   * @param value - text or bytes, up to 64 KiB; undefined takes it away
   * @throws CgroupError `notDelegated`; `tooMany` above 128 of them; UnsupportedError where the hierarchy has none
   */
  setXattr(name: string, value: string | Uint8Array | undefined): void {
    this.#live();
    setXattr(this.#places.homeOf('cgroup'), name, value);
  }

  #directoryOf(file: string): CgroupDirectory {
    if (typeof file !== 'string' || !/^\w[\w.]*$/.test(file))
      throw invalid(`not the name of a control file: ${shown(file)}`);
    const prefix = file.split('.')[0] === 'blkio' ? 'io' : (file.split('.')[0] as Controller);
    return this.#places.of(prefix) ?? this.#places.homeOf('cgroup');
  }

  /** The process is born in it. */
  confine(program: LaunchProgram): void {
    this.#live();
    bornIn(this.#places, program);
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
    if (!(from instanceof Cgroup)) throw invalid('from must be a group');
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
    checkWait(options);
    await freeze(this.#places, options);
  }

  /**
   * Lets everything in it go on, and waits until it does; an ancestor that is frozen still holds it.
   *
   * @param options - `signal`, `timeoutMs` (default 10,000)
   */
  async thaw(options: WaitOptions = {}): Promise<void> {
    this.#live();
    checkWait(options);
    await thaw(this.#places, options);
  }

  /**
   * Kills every process in it and below it, and waits until it is empty, whatever they fork meanwhile. Frozen ones too: what was frozen
   * stays so.
   *
   * @param options - `signal`, `timeoutMs` (default 10,000)
   * @throws CgroupError `busy` where something survives; `threaded` for a threaded v2 group
   */
  async kill(options: WaitOptions = {}): Promise<void> {
    this.#live();
    checkWait(options);
    try {
      await kill(this.#places, options);
    } catch (error) {
      // Removed meanwhile, by whoever disposed of it: nobody is in it.
      if (!this.#gone) throw error;
    }
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
    onlyKeys(options, 'the options of remove', ['recursive']);
    await this.#inTurn(() => this.#remove(options.recursive ?? false));
  }

  /** Closes its descriptors; the group stays. */
  [Symbol.dispose](): void {
    this.#reader.close();
    this.#places[Symbol.dispose]();
    this.#removed = true;
  }

  /** Kills, waits until it is empty, removes it with all below it; again does nothing. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inTurn(async () => {
      if (this.#removed) return;
      // Where nobody is left and nothing is below, that is all.
      if (this.#places.toRemove.every((directory) => directory.remove() === 0)) return this.#remove(true);
      // Whoever is launched into it meanwhile may come after the kill.
      for (let more = 2; ; more--) {
        await this.kill();
        try {
          return await this.#remove(true);
        } catch (error) {
          if (more === 0 || !CgroupError.is(error, 'busy')) throw error;
        }
      }
    });
  }

  async #remove(recursive: boolean): Promise<void> {
    if (this.#removed) return;
    this.#reader.close();
    for (const directory of this.#places.toRemove) await removeDirectory(directory, recursive);
    this.#removed = true;
    this.#gone = true;
    this.#places[Symbol.dispose]();
  }

  /** Who removes it while somebody else does waits: the other closes the descriptors. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.#removing ? this.#removing.then(work) : work();
    this.#removing = turn.catch(() => undefined);
    return turn;
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
