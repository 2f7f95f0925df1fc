import { Cgroup, CgroupError, fromOCI, type OciResources, type Stats } from '@iso/cgroups';
import type { Child } from '@iso/process';
import { attempt, Fd, O, watchFd } from '@iso/sys';
import { readBundle } from '../config/read.js';
import type { ProcessConfig } from '../config/spec.js';
import { RuntimeError } from '../error.js';
import { cgroupPath, createCgroup } from './cgroup.js';
import { runHooks } from './hooks.js';
import { hold, holdersOf, identityOf, isAlive, type ProcessIdentity, signal } from './identity.js';
import { hookBeside, launchBeside, launchFirst, type Surroundings } from './launch.js';
import type { Saved, Store } from './store.js';

/** What an engine is told of a container, see the runtime specification. */
export interface State {
  ociVersion: string;
  id: string;
  status: 'creating' | 'created' | 'running' | 'paused' | 'stopped';
  /** Absent where it has ended. */
  pid?: number;
  bundle: string;
  annotations?: Readonly<Record<string, string>>;
}

const SIGKILL = 9;
const OCI_VERSION = '1.2.0';

/** How a container is made. */
export interface CreateOptions extends Surroundings {
  /** Directory with config.json and the root. */
  bundle: string;
  /** Whether it gets a cgroup; default true. */
  cgroups?: boolean;
}

/** A container of a store: made, started, signalled, removed, by processes that come and go. */
export class Container {
  readonly id: string;
  readonly #store: Store;

  /**
   * @param store - where it is kept
   * @param id - its name
   */
  constructor(store: Store, id: string) {
    this.#store = store;
    this.id = id;
  }

  /**
   * Makes it: everything but its program, which waits for {@link Container.start}. Where anything cannot be applied as it is described, it
   * fails, and there is no container.
   *
   * @param options - of what
   * @returns its first process
   * @throws {@link RuntimeError}, KernelError, CgroupError: what cannot be applied
   */
  async create({ bundle: directory, cgroups = true, ...surroundings }: CreateOptions): Promise<Child> {
    const bundle = await readBundle(directory);
    const { config } = bundle;
    if (!config.process) throw new RuntimeError('config.json has no process');
    using _held = this.#store.create(this.id);
    const saved: Saved = {
      version: 1,
      id: this.id,
      bundle: bundle.directory,
      created: new Date().toISOString(),
      started: false,
      ...(cgroups ? { cgroup: cgroupPath(this.id, config) } : {}),
      config,
    };
    let cgroup: Cgroup | undefined;
    let child: Child | undefined;
    try {
      // What is noted below is this container's to remove: it must not be another's.
      using there = await this.#group(saved);
      if (there?.controllers.length) throw new RuntimeError(`the cgroup ${saved.cgroup} is there already`);
      // Before anything is made: who is killed meanwhile leaves what can be removed.
      this.#store.write(saved);
      if (saved.cgroup !== undefined) this.#store.noteGroup(this.id, saved.cgroup);
      cgroup = cgroups ? await createCgroup(this.id, config) : undefined;
      using gate = Fd.open(this.#store.gate(this.id), { flags: O.RDWR });
      child = await launchFirst(bundle, config.process, { cgroup, gate }, surroundings);
      const init = identityOf(child.pid);
      if (!init) throw new RuntimeError('its first process has ended already');
      saved.init = init;
      this.#store.write(saved);
      await runHooks(config, 'prestart', await this.#describe(saved));
      await runHooks(config, 'createRuntime', await this.#describe(saved));
      cgroup?.[Symbol.dispose]();
      return child;
    } catch (error) {
      child?.kill('SIGKILL');
      await child?.exited;
      await cgroup?.[Symbol.asyncDispose]().catch(() => {});
      this.#store.remove(this.id);
      throw error;
    }
  }

  /**
   * Lets its program go.
   *
   * @throws {@link RuntimeError} where it was started before, or has ended
   */
  async start(): Promise<void> {
    using _held = this.#store.lock(this.id);
    const saved = this.#saved();
    const { init, config } = saved;
    const { status } = await this.#describe(saved);
    if (status !== 'created' || !init) throw new RuntimeError(`cannot start a container that is ${status}`);
    using gate = Fd.open(this.#store.gate(this.id), { flags: O.WRONLY | O.NONBLOCK });
    await this.#runInside(saved, init);
    this.#store.write({ ...saved, started: true });
    attempt('write', gate, '\n', 1);
    // Nobody reads it any more once the program is executed, or could not be.
    await watchFd(gate, { for: 'readable', signal: AbortSignal.timeout(EXEC_MS) });
    await runHooks(config, 'poststart', await this.#describe(saved)).catch(() => {});
  }

  /** Hooks that are the last before its program: where one fails, that never runs. */
  async #runInside(saved: Saved, init: ProcessIdentity): Promise<void> {
    const { config } = saved;
    const first = config.process;
    if (!first || !config.hooks?.startContainer?.length) return;
    try {
      using pidfd = hold(init);
      if (!pidfd) throw new RuntimeError('container not running');
      using cgroup = await this.#group(saved);
      const inside = () => hookBeside(config, first, { cgroup, init, pidfd });
      await runHooks(config, 'startContainer', await this.#describe(saved), inside);
    } catch (error) {
      await this.#end(saved);
      throw error;
    }
  }

  /** What it is now. */
  state(): Promise<State> {
    return this.#describe(this.#saved());
  }

  /** What was kept of it. */
  saved(): Saved {
    return this.#saved();
  }

  /**
   * Sends a signal to its first process, or to all.
   *
   * @param number - of the signal
   * @param all - to each of its processes
   * @throws {@link RuntimeError} where it has ended
   */
  async kill(number: number, all = false): Promise<void> {
    const saved = this.#saved();
    const { status } = await this.#describe(saved);
    if (status === 'stopped' && !all) throw new RuntimeError('container not running');
    // What is frozen dies when it thaws, and is not to be lost sight of before.
    using group = all || status === 'paused' ? await this.#group(saved) : undefined;
    for (const pid of all && group ? group.allPids : []) {
      const one = identityOf(pid);
      if (one) signal(one, number);
    }
    if (!all && saved.init) signal(saved.init, number);
    if (number === SIGKILL && group?.frozen) await group.thaw();
  }

  /**
   * Adds a process to a running container.
   *
   * @param process_ - what it is
   * @param surroundings - descriptors, terminal
   * @returns the process
   * @throws {@link RuntimeError} where the container does not run
   */
  async exec(process_: ProcessConfig, surroundings: Surroundings = {}): Promise<Child> {
    const saved = await this.#in('exec in', 'running', 'created');
    const init = saved.init as ProcessIdentity;
    using pidfd = hold(init);
    if (!pidfd) throw new RuntimeError('container not running');
    using cgroup = await this.#group(saved);
    return await launchBeside(saved.config, process_, { cgroup, init, pidfd }, surroundings);
  }

  /** Numbers of its processes, as the host has them. */
  async pids(): Promise<number[]> {
    const saved = await this.#in('list processes of', 'running', 'created', 'paused');
    using group = await this.#group(saved);
    return group?.allPids ?? [(saved.init as ProcessIdentity).pid];
  }

  /**
   * Changes its limits.
   *
   * @param resources - as of `linux.resources`
   */
  async update(resources: OciResources): Promise<void> {
    using group = await this.#group(await this.#in('update', 'running', 'created', 'paused'));
    if (!group) throw new RuntimeError('the container has no cgroup');
    await group.set(fromOCI(resources));
  }

  /** What it uses. */
  async stats(): Promise<Stats> {
    using group = await this.#group(await this.#in('read statistics of', 'running', 'created', 'paused'));
    if (!group) throw new RuntimeError('the container has no cgroup');
    return group.stats();
  }

  /** Freezes all of its processes. */
  async pause(): Promise<void> {
    using group = await this.#group(await this.#in('pause', 'running'));
    if (!group) throw new RuntimeError('the container has no cgroup');
    await group.freeze();
  }

  /** Lets them go on. */
  async resume(): Promise<void> {
    using group = await this.#group(await this.#in('resume', 'paused'));
    await group?.thaw();
  }

  /**
   * Removes it: what its creation made, and nothing else.
   *
   * @param options - `force`: kills it first; one that is not there is no error then
   * @throws {@link RuntimeError} where it still runs
   */
  async delete({ force = false } = {}): Promise<void> {
    using _held = this.#store.lock(this.id);
    const { saved, cgroup } = force ? this.#store.rest(this.id) : this.#rest();
    // Whoever made it was killed before it could say what it had made: that waits at the gate.
    if (!saved?.init) for (const one of holdersOf(this.#store.gate(this.id))) signal(one, SIGKILL);
    if (saved) {
      const { status } = await this.#describe(saved);
      if (status !== 'stopped' && !force && status !== 'created')
        throw new RuntimeError(`cannot delete container ${this.id} that is not stopped: ${status}`);
      if (saved.init && isAlive(saved.init)) await this.#end(saved);
    }
    const group = await this.#group({ cgroup });
    // With whatever stayed behind in it.
    await group?.[Symbol.asyncDispose]();
    this.#store.remove(this.id);
    if (saved) await runHooks(saved.config, 'poststop', await this.#describe(saved)).catch(() => {});
  }

  #rest(): { saved: Saved | undefined; cgroup: string | undefined } {
    const saved = this.#store.read(this.id);
    return { saved, cgroup: saved?.cgroup };
  }

  async #end(saved: Saved): Promise<void> {
    if (!saved.init) return;
    using pidfd = hold(saved.init);
    if (!pidfd) return;
    using group = await this.#group(saved);
    attempt('pidfd_send_signal', pidfd, SIGKILL, null, 0);
    if (group?.frozen) await group.thaw();
    await watchFd(pidfd, { signal: AbortSignal.timeout(EXEC_MS) });
  }

  #saved(): Saved {
    const saved = this.#store.read(this.id);
    if (!saved) throw new RuntimeError(`container ${this.id} is being made`);
    return saved;
  }

  async #in(what: string, ...wanted: State['status'][]): Promise<Saved> {
    const saved = this.#saved();
    const { status } = await this.#describe(saved);
    if (!wanted.includes(status)) throw new RuntimeError(`cannot ${what} a container that is ${status}`);
    return saved;
  }

  async #group({ cgroup }: { cgroup?: string | undefined }): Promise<Cgroup | undefined> {
    if (cgroup === undefined) return undefined;
    try {
      return await Cgroup.open(cgroup);
    } catch (error) {
      if (CgroupError.is(error, 'removed')) return undefined;
      throw error;
    }
  }

  async #describe(saved: Saved): Promise<State> {
    const { id, bundle, init, started, config } = saved;
    const alive = init !== undefined && isAlive(init);
    using group = alive && started ? await this.#group(saved) : undefined;
    const going = group?.frozen ? 'paused' : started ? 'running' : 'created';
    const status = !init ? 'creating' : alive ? going : 'stopped';
    return {
      ociVersion: OCI_VERSION,
      id,
      status,
      ...(alive ? { pid: init.pid } : {}),
      bundle,
      ...(config.annotations ? { annotations: config.annotations } : {}),
    };
  }
}

const EXEC_MS = 10_000;
