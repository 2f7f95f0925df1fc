import { type Cgroup, CgroupError, fromOCI, type OciResources, type Scope, type Stats } from '@iso/cgroups';
import type { Child } from '@iso/process';
import { attempt, Fd, O, watchFd } from '@iso/sys';
import { haltsForHooks } from '../config/hooks.js';
import { readBundle } from '../config/read.js';
import type { ProcessConfig } from '../config/spec.js';
import { RuntimeError } from '../error.js';
import { engage } from './agent.js';
import { cgroupPath, createCgroup, writeUnified } from './cgroup.js';
import { runAtHalt, runHooks, runPoststop } from './hooks.js';
import { hold, holdersOf, identityOf, type ProcessIdentity, signal } from './identity.js';
import { hookBeside, launchBeside, launchFirst, type Surroundings } from './launch.js';
import { createScope, removeScope, setScope } from './scope.js';
import { groupOf, type State, stateInside, stateOf } from './state.js';
import { checkId, type Saved, type Store } from './store.js';

const SIGKILL = 9;

/** How a container is made. */
export interface CreateOptions extends Surroundings {
  /** Directory with config.json and the root. */
  bundle: string;
  /** Whether it gets a cgroup; default true. `systemd`: in a scope that systemd makes. */
  cgroups?: boolean | 'systemd';
}

/** A container of a store: made, started, signalled, removed, by processes that come and go. */
export class Container {
  readonly id: string;
  readonly #store: Store;
  /** Held until this process ends: then what is in it holds it. */
  #scope: Scope | undefined;

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
    checkId(this.id);
    const bundle = await readBundle(directory);
    const { config } = bundle;
    if (!config.process) throw new RuntimeError('config.json has no process');
    const saved: Saved = {
      version: 1,
      id: this.id,
      bundle: bundle.directory,
      created: new Date().toISOString(),
      started: false,
      ...(cgroups === true ? { cgroup: cgroupPath(this.id, config) } : {}),
      config,
    };
    using _held = this.#store.create(this.id);
    let cgroup: Cgroup | undefined;
    let scope: Scope | undefined;
    let hooked = false;
    try {
      // What is noted below is this container's to remove: it must not be another's.
      using there = await groupOf(saved);
      if (there?.controllers.length) throw new RuntimeError(`the cgroup ${saved.cgroup} is there already`);
      // Before anything is made: who is killed meanwhile leaves what can be removed.
      this.#store.write(saved);
      if (saved.cgroup !== undefined) this.#store.noteGroup(this.id, saved.cgroup);
      if (cgroups === 'systemd') {
        const made = await createScope(this.id, config);
        ({ scope, group: cgroup } = made);
        Object.assign(saved, { scope: made.saved, cgroup: made.path });
        this.#store.write(saved);
        this.#store.noteGroup(this.id, made.path);
      } else if (cgroups) cgroup = await createCgroup(this.id, config);
      using gate = Fd.open(this.#store.gate(this.id), { flags: O.RDWR });
      const hooks = (init: ProcessIdentity) => {
        hooked = true;
        return runAtHalt(saved, bundle, { cgroup, init });
      };
      const child = await launchFirst(bundle, config.process, { cgroup, gate }, surroundings, {
        atHalt: haltsForHooks(config) ? hooks : undefined,
        underFilter: async (supervisor, { pid }) => engage(supervisor, config, pid, { ...(await stateOf(saved)), pid }),
      });
      try {
        this.#keep(saved, child);
      } catch (error) {
        child.kill('SIGKILL');
        await child.exited;
        throw error;
      }
      cgroup?.[Symbol.dispose]();
      this.#scope = scope;
      return child;
    } catch (error) {
      await cgroup?.[Symbol.asyncDispose]().catch(() => {});
      await scope?.remove().catch(() => {});
      this.#store.remove(this.id);
      // What those of its creation have made is theirs to undo.
      if (hooked) await runPoststop(config, { ...(await stateOf(saved)), status: 'stopped' });
      throw error;
    }
  }

  #keep(saved: Saved, { pid }: Child): void {
    const init = identityOf(pid);
    if (!init) throw new RuntimeError('its first process has ended already');
    saved.init = init;
    this.#store.write(saved);
  }

  /**
   * Lets its program go.
   *
   * @throws {@link RuntimeError} where it was started before, or has ended; where a hook fails: it is killed then
   */
  async start(): Promise<void> {
    using _held = this.#store.lock(this.id);
    const saved = this.#saved();
    const { init, config } = saved;
    const { status } = await stateOf(saved);
    if (status !== 'created' || !init) throw new RuntimeError(`cannot start a container that is ${status}`);
    using gate = Fd.open(this.#store.gate(this.id), { flags: O.WRONLY | O.NONBLOCK });
    await this.#runInside(saved, init);
    this.#store.write({ ...saved, started: true });
    attempt('write', gate, '\n', 1);
    // Nobody reads it any more once the program is executed, or could not be.
    await watchFd(gate, { for: 'readable', signal: AbortSignal.timeout(EXEC_MS) });
    try {
      await runHooks(config, 'poststart', await stateOf({ ...saved, started: true }));
    } catch (error) {
      await this.#end(saved);
      throw error;
    }
  }

  /** Hooks that are the last before its program: where one fails, that never runs. */
  async #runInside(saved: Saved, init: ProcessIdentity): Promise<void> {
    const { config } = saved;
    const first = config.process;
    if (!first || !config.hooks?.startContainer?.length) return;
    try {
      using pidfd = hold(init);
      if (!pidfd) throw new RuntimeError('container not running');
      using cgroup = await groupOf(saved);
      const inside = () => hookBeside(config, first, { cgroup, init, pidfd });
      await runHooks(config, 'startContainer', stateInside(await stateOf(saved)), inside);
    } catch (error) {
      await this.#end(saved);
      throw error;
    }
  }

  /** What it is now. */
  state(): Promise<State> {
    return stateOf(this.#saved());
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
    const { status } = await stateOf(saved);
    if (status === 'stopped' && !all) throw new RuntimeError('container not running');
    // What is frozen dies when it thaws, and is not to be lost sight of before.
    using group = all || status === 'paused' ? await groupOf(saved) : undefined;
    for (const pid of all && group ? group.allPids : []) {
      const one = identityOf(pid);
      if (one) signal(one, number);
    }
    if (!all && saved.init) signal(saved.init, number);
    if (number === SIGKILL) await thawDying(group);
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
    using cgroup = await groupOf(saved);
    return await launchBeside(saved.config, process_, { cgroup, init, pidfd }, surroundings, {
      underFilter: async (supervisor, { pid }) => engage(supervisor, saved.config, pid, await stateOf(saved)),
    });
  }

  /** Numbers of its processes, as the host has them. */
  async pids(): Promise<number[]> {
    const saved = await this.#in('list processes of', 'running', 'created', 'paused');
    using group = await groupOf(saved);
    return group?.allPids ?? [(saved.init as ProcessIdentity).pid];
  }

  /**
   * Changes its limits.
   *
   * @param resources - as of `linux.resources`
   */
  async update(resources: OciResources): Promise<void> {
    const saved = await this.#in('update', 'running', 'created', 'paused');
    using group = await groupOf(saved);
    if (!group) throw new RuntimeError('the container has no cgroup');
    const limits = fromOCI(resources);
    if (saved.scope) await setScope(saved.scope, limits);
    await group.set(limits);
    writeUnified(group, resources);
  }

  /** What it uses. */
  async stats(): Promise<Stats> {
    using group = await groupOf(await this.#in('read statistics of', 'running', 'created', 'paused'));
    if (!group) throw new RuntimeError('the container has no cgroup');
    return group.stats();
  }

  /** Freezes all of its processes. */
  async pause(): Promise<void> {
    using group = await groupOf(await this.#in('pause', 'running'));
    if (!group) throw new RuntimeError('the container has no cgroup');
    await group.freeze();
  }

  /** Lets them go on. */
  async resume(): Promise<void> {
    using group = await groupOf(await this.#in('resume', 'paused'));
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
      const { status } = await stateOf(saved);
      if (status !== 'stopped' && !force && status !== 'created')
        throw new RuntimeError(`cannot delete container ${this.id} that is not stopped: ${status}`);
      await this.#end(saved);
    }
    const group = await groupOf({ cgroup });
    // With whatever stayed behind in it.
    await group?.[Symbol.asyncDispose]();
    if (saved?.scope) await (this.#scope?.remove() ?? removeScope(saved.scope));
    this.#store.remove(this.id);
    if (saved) await runPoststop(saved.config, await stateOf(saved));
  }

  #rest(): { saved: Saved | undefined; cgroup: string | undefined } {
    const saved = this.#store.read(this.id);
    return { saved, cgroup: saved?.cgroup };
  }

  async #end(saved: Saved): Promise<void> {
    if (!saved.init) return;
    using pidfd = hold(saved.init);
    if (!pidfd) return;
    using group = await groupOf(saved);
    attempt('pidfd_send_signal', pidfd, SIGKILL, null, 0);
    await thawDying(group);
    await watchFd(pidfd, { signal: AbortSignal.timeout(EXEC_MS) });
  }

  #saved(): Saved {
    const saved = this.#store.read(this.id);
    if (!saved) throw new RuntimeError(`container ${this.id} is being made`);
    return saved;
  }

  async #in(what: string, ...wanted: State['status'][]): Promise<Saved> {
    const saved = this.#saved();
    const { status } = await stateOf(saved);
    if (!wanted.includes(status)) throw new RuntimeError(`cannot ${what} a container that is ${status}`);
    return saved;
  }
}

/** On v1 what is frozen cannot die. Elsewhere it may have by now, and its group may be gone: systemd removes what is empty. */
async function thawDying(group: Cgroup | undefined): Promise<void> {
  try {
    if (group?.frozen) await group.thaw();
  } catch (error) {
    if (!CgroupError.is(error, 'removed')) throw error;
  }
}

const EXEC_MS = 10_000;
