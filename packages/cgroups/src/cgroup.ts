import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { attempt, Fd, invalid, KernelError, type LaunchProgram, type Part } from '@iso/sys';
import { CgroupDirectory } from './directory.js';
import { type Controller, detect, type Layout } from './layout.js';
import { type Limits, plan } from './limits.js';

/** Where a cgroup goes, and what it starts with. */
export interface CreateOptions {
  limits?: Limits;
  /**
   * v1 controllers to join; default all. Each is a directory to make and a write before the program runs. Those that
   * `limits` name are joined in any case, and the freezer where only it can kill reliably (no v2 tree).
   */
  controllers?: readonly Controller[];
  /** Directory of this package's cgroups below the root of each hierarchy, default `iso`. */
  parent?: string;
}

/** What a cgroup uses; a part is undefined where its controller is not there. */
export interface Stats {
  memory: { currentBytes: number; maxBytes: number | 'max'; oomKills: number } | undefined;
  pids: { current: number; max: number | 'max' } | undefined;
  cpu: { usageUs: number } | undefined;
}

const SIGKILL = 9;

/**
 * A cgroup: one directory on v2, one in each hierarchy on v1 and hybrid machines. A part of a launch: the process is born
 * in it. Disposing kills what runs in it, waits until it is empty, and removes it.
 *
 * @example
 * ```ts root
 * import { Cgroup } from '@iso/cgroups';
 * const job = await Cgroup.create(`example-${process.pid}`, { limits: { pids: { max: 10 } } });
 * if (job.stats().pids?.max !== 10) throw new Error('no limit');
 * await job.remove();
 * ```
 */
export class Cgroup implements AsyncDisposable, Part {
  /** Its name. */
  readonly name: string;
  readonly #v2: CgroupDirectory | undefined;
  readonly #v1: ReadonlyMap<Controller, CgroupDirectory>;
  #removed = false;

  private constructor(name: string, v2: CgroupDirectory | undefined, v1: ReadonlyMap<Controller, CgroupDirectory>) {
    this.name = name;
    this.#v2 = v2;
    this.#v1 = v1;
  }

  /**
   * Creates a cgroup and sets its limits. The name gets this process's identity, so that {@link Cgroup.sweep} finds
   * it once this process is dead.
   *
   * @param name - letters, digits, `_`, `.`, `-`
   * @param options - limits
   * @returns the cgroup
   * @throws KernelError `EACCES`, `EROFS` with a hint where nothing is delegated to this user; `TypeError` for bad names and limits
   */
  static async create(name: string, options: CreateOptions = {}): Promise<Cgroup> {
    const layout = detect();
    // Judged before anything exists.
    plan(options.limits ?? {}, 2);
    const parent = checkName(options.parent ?? 'iso');
    const full = `${checkName(name)}@${process.pid}-${startTime(process.pid)}`;
    const made: CgroupDirectory[] = [];
    const make = (root: string) => {
      CgroupDirectory.create(`${root}/${parent}`, false)[Symbol.dispose]();
      const directory = CgroupDirectory.create(`${root}/${parent}/${full}`, true);
      made.push(directory);
      return directory;
    };
    const v1 = new Map<Controller, CgroupDirectory>();
    try {
      const byRoot = new Map<string, CgroupDirectory>();
      for (const [controller, root] of Object.entries(layout.v1) as [Controller, string][]) {
        if (!joins(controller, layout, options)) continue;
        if (!byRoot.has(root)) byRoot.set(root, make(root));
        v1.set(controller, byRoot.get(root) as CgroupDirectory);
      }
      const v2 = layout.unified === undefined ? undefined : createUnified(layout, parent, options.limits ?? {}, make);
      const cgroup = new Cgroup(full, v2, v1);
      cgroup.set(options.limits ?? {});
      return cgroup;
    } catch (error) {
      for (const directory of made) {
        directory.remove();
        directory[Symbol.dispose]();
      }
      throw error;
    }
  }

  /**
   * Removes the cgroups of processes that are dead: what a killed process left.
   *
   * @param options - `parent` as for create
   * @returns names of those removed
   */
  static async sweep(options: { parent?: string } = {}): Promise<string[]> {
    const layout = detect();
    const parent = checkName(options.parent ?? 'iso');
    const roots = new Set([...Object.values(layout.v1), ...(layout.unified ? [layout.unified] : [])]);
    const dead = new Set<string>();
    for (const root of roots) {
      for (const name of list(`${root}/${parent}`)) if (ownerIsDead(name)) dead.add(name);
    }
    for (const name of dead) {
      const open = (root: string | undefined) => {
        try {
          return root === undefined ? undefined : CgroupDirectory.open(`${root}/${parent}/${name}`);
        } catch {
          return undefined;
        }
      };
      const v1 = new Map<Controller, CgroupDirectory>();
      for (const [controller, root] of Object.entries(layout.v1) as [Controller, string][]) {
        const directory = open(root);
        if (directory) v1.set(controller, directory);
      }
      await new Cgroup(name, open(layout.unified), v1)[Symbol.asyncDispose]();
    }
    return [...dead];
  }

  /**
   * Its directory for a controller.
   *
   * @param controller - which; default the v2 tree
   * @returns the path, undefined where there is none
   */
  path(controller?: Controller): string | undefined {
    return (controller === undefined ? this.#v2 : (this.#v1.get(controller) ?? this.#v2))?.path;
  }

  /** Pids in it, as the caller sees them. */
  get pids(): number[] {
    const directory = this.#v1.get('pids') ?? this.#v2 ?? [...this.#v1.values()][0];
    return (directory?.read('cgroup.procs') ?? '')
      .split('\n')
      .filter((line) => line !== '')
      .map(Number);
  }

  /**
   * Sets limits; what is not named stays.
   *
   * @param limits - new limits
   * @throws KernelError `ENOENT` where a controller is missing, `EBUSY` where more is used on v1
   */
  set(limits: Limits): void {
    const writes = [
      ...plan(limits, 1).filter((write) => this.#v1.has(write.controller)),
      ...plan(limits, 2).filter((write) => !this.#v1.has(write.controller)),
    ];
    for (const { controller, file, value, optional } of writes) {
      (this.#v1.get(controller) ?? this.#v2)?.write(file, value, optional ? { optional } : {});
    }
  }

  /**
   * What it uses now.
   *
   * @returns figures of the controllers that are there
   */
  stats(): Stats {
    const { memory, pids, cpu } = {
      memory: this.#v1.get('memory'),
      pids: this.#v1.get('pids'),
      cpu: this.#v1.get('cpuacct'),
    };
    return {
      memory: memory
        ? memoryStats(memory, 'memory.usage_in_bytes', 'memory.limit_in_bytes', 'memory.oom_control')
        : this.#v2 && memoryStats(this.#v2, 'memory.current', 'memory.max', 'memory.events'),
      pids: pidsStats(pids ?? this.#v2),
      cpu: cpu
        ? usage(cpu.read('cpuacct.usage'), 1000)
        : usage(/^usage_usec (\d+)$/m.exec(this.#v2?.read('cpu.stat') ?? '')?.[1], 1),
    };
  }

  /** The process is born in it. */
  confine(program: LaunchProgram): void {
    for (const directory of new Set(this.#v1.values())) {
      // Not cgroup.procs: for the one thread that writes 0 here, the kernel takes no machine-wide lock, which waits for RCU.
      const tasks = directory.open('tasks');
      program.defer(() => tasks.close());
      program.step('birth', 'write', [tasks, '0', 1], { text: `write(${directory.path}/tasks, "0")` });
    }
    if (this.#v2) program.cgroup(this.#v2.fd);
    if (this.frozen) program.mayBlock();
  }

  /** Whether it was told to freeze. */
  get frozen(): boolean {
    const freezer = this.#v1.get('freezer');
    if (freezer && freezer.read('freezer.state') !== 'THAWED') return true;
    return this.#v2?.read('cgroup.freeze') === '1';
  }

  /**
   * Stops everything in it, without a signal.
   *
   * @throws KernelError where the kernel cannot
   */
  async freeze(): Promise<void> {
    const freezer = this.#v1.get('freezer');
    if (!freezer) {
      this.#v2?.write('cgroup.freeze', '1');
      await until(() => /^frozen 1$/m.test(this.#v2?.read('cgroup.events') ?? ''), 'the cgroup does not freeze');
      return;
    }
    for (let tries = 1; ; tries++) {
      freezer.write('freezer.state', 'FROZEN');
      if (freezer.read('freezer.state') === 'FROZEN') return;
      // A process that forks all the time escapes: let it run on, and try again.
      if (tries % 50 === 0) freezer.write('freezer.state', 'THAWED');
      if (tries > 1000) throw new KernelError(16, { syscall: 'write', path: `${freezer.path}/freezer.state` });
      await sleep(1);
    }
  }

  /** Lets everything in it go on. */
  thaw(): void {
    this.#v1.get('freezer')?.write('freezer.state', 'THAWED');
    this.#v2?.write('cgroup.freeze', '0', { optional: true });
  }

  /**
   * Kills every process in it and waits until it is empty, whatever they fork meanwhile.
   *
   * @throws KernelError `EBUSY` where something survives 10 seconds
   */
  async kill(): Promise<void> {
    if (this.#v2?.read('cgroup.events') !== undefined) this.#v2.write('cgroup.kill', '1', { optional: true });
    if (this.pids.length > 0 && this.#v1.has('freezer')) {
      try {
        await this.freeze();
        for (const pid of this.pids) killByPidfd(pid);
      } finally {
        // What is frozen cannot die.
        this.thaw();
      }
    }
    await until(() => {
      const left = this.pids;
      for (const pid of left) killByPidfd(pid);
      return left.length === 0;
    }, 'processes of the cgroup survive SIGKILL');
  }

  /**
   * Removes it; it must be empty. Waits for processes that are just ending.
   *
   * @throws KernelError `EBUSY` where processes or children stay
   */
  async remove(): Promise<void> {
    if (this.#removed) return;
    for (const directory of new Set([...this.#v1.values(), ...(this.#v2 ? [this.#v2] : [])])) {
      for (let wait = 1; ; wait *= 2) {
        const errno = directory.remove();
        if (errno === 0) break;
        if (errno !== 16 || wait > 512) throw new KernelError(errno, { syscall: 'rmdir', path: directory.path });
        await sleep(wait);
      }
      directory[Symbol.dispose]();
    }
    this.#removed = true;
  }

  /** Kills, waits until it is empty, removes; again does nothing. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#removed) return;
    await this.kill();
    await this.remove();
  }
}

function joins(controller: Controller, layout: Layout, { controllers, limits = {} }: CreateOptions): boolean {
  if (!controllers || controllers.includes(controller) || controller in limits) return true;
  return controller === 'freezer' && layout.unified === undefined;
}

/** On a unified machine the controllers that limits need are enabled from the root down. */
function createUnified(
  layout: Layout,
  parent: string,
  limits: Limits,
  make: (root: string) => CgroupDirectory,
): CgroupDirectory {
  const root = layout.unified as string;
  if (layout.kind === 'unified') {
    const wanted = Object.keys(limits);
    for (const path of [root, `${root}/${parent}`]) {
      if (path !== root) CgroupDirectory.create(path, false)[Symbol.dispose]();
      const directory = CgroupDirectory.open(path);
      try {
        const enabled = (directory.read('cgroup.subtree_control') ?? '').split(' ');
        for (const controller of wanted) {
          if (!enabled.includes(controller)) directory.write('cgroup.subtree_control', `+${controller}`);
        }
      } finally {
        directory[Symbol.dispose]();
      }
    }
  }
  return make(root);
}

function checkName(name: string): string {
  if (!/^[\w][\w.-]{0,99}$/.test(name)) throw invalid(`not the name of a cgroup: ${JSON.stringify(name)}`);
  return name;
}

function startTime(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] as string;
}

function ownerIsDead(name: string): boolean {
  const match = /@(\d+)-(\d+)$/.exec(name);
  if (!match) return false;
  try {
    return startTime(Number(match[1])) !== match[2];
  } catch {
    return true;
  }
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

/** Signals go to what a pid is now, held by a pidfd while we look. */
function killByPidfd(pid: number): void {
  const fd = attempt('pidfd_open', pid, 0);
  if (fd < 0) return;
  const pidfd = Fd.own(fd);
  attempt('pidfd_send_signal', pidfd, SIGKILL, null, 0);
  pidfd.close();
}

async function until(done: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 10_000;
  for (let wait = 1; !done(); wait = Math.min(wait * 2, 50)) {
    if (Date.now() > deadline) throw new KernelError(16, { syscall: 'write', call: 'cgroup', hint: what });
    await sleep(wait);
  }
}

function memoryStats(directory: CgroupDirectory, current: string, max: string, events: string): Stats['memory'] {
  const used = directory.read(current);
  if (used === undefined) return undefined;
  const limit = directory.read(max) ?? 'max';
  // v1 writes "no limit" as the largest page-aligned number.
  const maxBytes = limit === 'max' || Number(limit) > 2 ** 62 ? 'max' : Number(limit);
  return {
    currentBytes: Number(used),
    maxBytes,
    oomKills: Number(/^oom_kill (\d+)$/m.exec(directory.read(events) ?? '')?.[1] ?? 0),
  };
}

function pidsStats(directory: CgroupDirectory | undefined): Stats['pids'] {
  const current = directory?.read('pids.current');
  const max = directory?.read('pids.max');
  return current === undefined
    ? undefined
    : { current: Number(current), max: max === undefined || max === 'max' ? 'max' : Number(max) };
}

function usage(text: string | undefined, divisor: number): Stats['cpu'] {
  return text === undefined ? undefined : { usageUs: Math.floor(Number(text) / divisor) };
}
