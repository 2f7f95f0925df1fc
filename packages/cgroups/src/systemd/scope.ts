import { readFileSync } from 'node:fs';
import { invalid } from '@iso/sys';
import { Cgroup } from '../cgroup.js';
import { CgroupError, E } from '../error.js';
import { detect, type Layout } from '../layout.js';
import type { Limits } from '../limits/limits.js';
import { checkSet, checkWait, type SetOptions } from '../options.js';
import { Places } from '../places.js';
import { planIn } from '../set.js';
import { list, onlyKeys, shown } from '../value.js';
import type { WaitOptions } from '../wait.js';
import type { Manager } from './address.js';
import { Keeper } from './keeper.js';
import { type Property, propertiesOf } from './properties.js';
import { Units } from './units.js';
import { Variant } from './wire/value.js';

/** What a {@link Scope} starts with. */
export interface ScopeOptions extends WaitOptions {
  /** Handed to systemd, as far as it knows them, and written to the group's files where it does not. */
  limits?: Limits;
  /** `system`: the machine's systemd (root). `user`: the user's own. Default: the machine's for root, else the user's. */
  manager?: Manager;
  /** The slice that the scope lies in; default the manager's. */
  slice?: string;
  /** Processes to move into the scope, which lasts as long as one is in it. Default: one that waits until {@link Scope.remove}. */
  pids?: readonly number[];
  /** For people, in `systemctl status`. */
  description?: string;
  /** What to do about limits that the machine's version has no twin of; default `throw`. */
  onUnsupported?: 'throw' | 'ignore';
}

/** Where its first processes are, so that groups beside it can have controllers. */
const LEAF = 'processes';
/** A unit's name, without what would need escaping. */
const NAME = /^[\w:.-]{1,200}$/;

/**
 * A transient scope of systemd with `Delegate=yes`: on a machine whose cgroups are systemd's, a subtree that it leaves to this process.
 * Spoken to over D-Bus. See systemd.scope(5), https://systemd.io/CGROUP_DELEGATION and org.freedesktop.systemd1(5).
 *
 * @example
 * ```ts no-run: needs systemd
 * import { Cgroup, Scope } from '@iso/cgroups';
 * const scope = await Scope.create('my-jobs', { limits: { memory: { max: '1G' } } });
 * const job = await Cgroup.create('job-1', { parent: scope.group, limits: { pids: { max: 64 } } });
 * await job[Symbol.asyncDispose]();
 * await scope.remove();
 * ```
 */
export class Scope implements AsyncDisposable {
  /** Its name for systemd: `my-jobs.scope`. */
  readonly unit: string;
  /** Whose systemd it is. */
  readonly manager: Manager;
  /** Its group, to be a `parent` of {@link Cgroup.create}. Its limits are systemd's: change them by {@link Scope.set}. */
  readonly group: Cgroup;
  readonly #keeper: Keeper | undefined;
  #removed = false;

  private constructor(unit: string, manager: Manager, group: Cgroup, keeper: Keeper | undefined) {
    this.unit = unit;
    this.manager = manager;
    this.group = group;
    this.#keeper = keeper;
  }

  /**
   * Starts a scope, and waits until systemd has made it.
   *
   * @param name - letters, digits, `_`, `.`, `-`, `:`; `.scope` is added
   * @param options - limits, manager, processes
   * @returns the scope
   * @throws UnsupportedError where no systemd listens; CgroupError `exists`, `notDelegated`, `noSuchProcess`, `busy` after the time, or what
   * {@link Cgroup.set} throws; `TypeError` for bad names and limits. Nothing of it stays then, but where `pids` were given their scope
   */
  static async create(name: string, options: ScopeOptions = {}): Promise<Scope> {
    const { limits = {}, manager, slice, pids, description, onUnsupported, ...wait } = checked(name, options);
    const unit = `${name}.scope`;
    const whose = manager ?? (process.geteuid?.() === 0 ? 'system' : 'user');
    const unsupported = onUnsupported ? { onUnsupported } : {};
    const layout = detect();
    judge(limits, layout, unsupported);
    const properties = propertiesOf(limits);
    await using units = await Units.open(whose, wait);
    const keeper = pids ? undefined : Keeper.start();
    let started = false;
    try {
      const members = pids ?? [(keeper as Keeper).pid];
      await units.startTransient(unit, [
        ['Description', new Variant('s', description ?? `${name}, by process ${process.pid}`)],
        ['PIDs', new Variant('au', [...members])],
        ['Delegate', new Variant('b', true)],
        ['CollectMode', new Variant('s', 'inactive-or-failed')],
        ...(slice ? [['Slice', new Variant('s', slice)] as Property] : []),
        ...properties,
      ]);
      started = true;
      const group = await groupOf(members[0] as number, unit, layout);
      try {
        const leaf = await group.create(LEAF, { controllers: [] });
        await leaf.moveAll(group);
        leaf[Symbol.dispose]();
        await group.set(limits, { ...unsupported, lowering: 'force' });
        return new Scope(unit, whose, group, keeper);
      } catch (error) {
        group[Symbol.dispose]();
        throw error;
      }
    } catch (error) {
      await keeper?.[Symbol.asyncDispose]();
      // With processes of the caller's it must not be killed: it ends when they do.
      if (started && keeper) await units.stop(unit).catch(() => undefined);
      throw error;
    }
  }

  /**
   * Opens a scope that is there, whoever has made it: with processes of its own, it outlives who did.
   *
   * @param name - without `.scope`
   * @param options - `manager` as for {@link Scope.create}, `signal`, `timeoutMs`
   * @returns the scope
   * @throws UnsupportedError where no systemd listens; CgroupError `removed` where there is no such scope
   */
  static async open(name: string, options: Pick<ScopeOptions, 'manager' | keyof WaitOptions> = {}): Promise<Scope> {
    const { manager, ...wait } = checked(name, options);
    const unit = `${name}.scope`;
    const whose = manager ?? (process.geteuid?.() === 0 ? 'system' : 'user');
    await using units = await Units.open(whose, wait);
    const path = await units.property(unit, 'Scope', 'ControlGroup');
    if (typeof path !== 'string' || path === '') throw gone(unit, 'there is no such scope, or nothing runs in it');
    return new Scope(unit, whose, await Cgroup.open(path), undefined);
  }

  /**
   * Sets limits of the scope: in the group's files, as {@link Cgroup.set} does, and in systemd, which keeps them then.
   *
   * @param limits - new limits
   * @param options - as for {@link Cgroup.set}
   * @throws what {@link Cgroup.set} throws; CgroupError `removed` where systemd has no such scope any more
   */
  async set(limits: Limits, options: SetOptions = {}): Promise<void> {
    checkSet(options);
    judge(limits, detect(), options.onUnsupported ? { onUnsupported: options.onUnsupported } : {});
    const properties = propertiesOf(limits);
    await using units = await Units.open(this.manager, options);
    await this.group.set(limits, options);
    if (properties.length > 0) await units.setProperties(this.unit, properties);
  }

  /**
   * Kills what runs in it, stops the unit, and waits until both are gone; again does nothing.
   *
   * @param options - `signal`, `timeoutMs`
   * @throws CgroupError `busy` where something survives
   */
  async remove(options: WaitOptions = {}): Promise<void> {
    checkWait(options);
    if (this.#removed) return;
    try {
      await this.group.kill(options);
    } catch (error) {
      // Empty, it is systemd's to remove: that may have come first.
      if (!CgroupError.is(error, 'removed')) throw error;
    }
    await this.#keeper?.[Symbol.asyncDispose]();
    await using units = await Units.open(this.manager, options);
    try {
      await units.stop(this.unit);
    } catch (error) {
      if (!CgroupError.is(error, 'removed')) throw error;
    }
    await this.group.remove({ recursive: true });
    this.#removed = true;
  }

  /** {@link Scope.remove}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.remove();
  }
}

function checked(name: string, options: ScopeOptions): ScopeOptions {
  onlyKeys(options, 'the options of a scope', [
    'limits',
    'manager',
    'slice',
    'pids',
    'description',
    'onUnsupported',
    'signal',
    'timeoutMs',
  ]);
  const { manager, slice, pids, description, onUnsupported, signal, timeoutMs } = options;
  checkSet({
    ...(onUnsupported === undefined ? {} : { onUnsupported }),
    ...(signal === undefined ? {} : { signal }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  });
  if (typeof name !== 'string' || !NAME.test(name)) throw invalid(`not the name of a scope: ${shown(name)}`);
  if (manager !== undefined && manager !== 'system' && manager !== 'user') {
    throw invalid(`manager must be system or user, not ${shown(manager)}`);
  }
  if (slice !== undefined && !(typeof slice === 'string' && /^[\w:.\\@-]+\.slice$/.test(slice))) {
    throw invalid(`not the name of a slice: ${shown(slice)}`);
  }
  if (description !== undefined && typeof description !== 'string') throw invalid('description must be text');
  if (pids?.length === 0) throw invalid('a scope begins with one process at least');
  for (const pid of list(pids, 'pids')) {
    if (!Number.isSafeInteger(pid) || pid < 1) throw invalid(`not the id of a process: ${shown(pid)}`);
  }
  return options;
}

/** Refuses limits that are none before anything is asked of systemd. */
function judge(limits: Limits, layout: Layout, unsupported: { onUnsupported?: 'throw' | 'ignore' }): void {
  planIn(
    Places.open(layout, () => undefined),
    limits,
    unsupported,
  );
}

/** The group into which systemd has put a process. */
async function groupOf(pid: number, unit: string, layout: Layout): Promise<Cgroup> {
  const text = readFileSync(`/proc/${pid}/cgroup`, 'latin1');
  const own = detect({ cgroup: text }).hierarchies.find(({ own }) => own?.endsWith(`/${unit}`))?.own;
  if (own === undefined) {
    throw gone(unit, `systemd has started it, but its process ${pid} is elsewhere`);
  }
  return Cgroup.open(own, { layout });
}

function gone(unit: string, hint: string): CgroupError {
  return new CgroupError(E.NOENT, { syscall: 'read', call: `looking for ${unit}`, reason: 'removed', hint });
}
