import { attempt, FdWatcher } from '@iso/sys';
import { CgroupError, E } from '../error.js';
import { membersOf } from '../kill.js';
import type { Places } from '../places.js';
import type { CgroupDirectory } from '../raw/directory.js';
import { StateFile } from '../state.js';
import { type Counters, StatFile } from '../stats/file.js';
import { choice, integer, list, onlyKeys } from '../value.js';
import { Feed } from './feed.js';
import { onLegacyEvent, onSiblingRemoved, type Source } from './source.js';

/**
 * Something that happened to a group.
 *
 * - `populated`, `frozen`: the state that it is in now. Told again where it changed and changed back: a short visit.
 * - `memory`: a counter of `memory.events` grew: `low`, `high`, `max`, `oom`, `oomKill`, `oomGroupKill` … For the last three `limitOf` is the
 *   group whose limit it was: this one or one above; undefined where the machine itself was out of memory, or on v1. There: `oom`
 *   and `oomKill` alone.
 * - `pids`: a fork was refused at `pids.max`.
 * - `hugetlb`, `misc`: an allocation was refused.
 * - `threshold`, `pressureLevel`: v1, as asked for in the options.
 * - `removed`: the last one.
 */
export type CgroupEvent =
  | { type: 'populated'; populated: boolean }
  | { type: 'frozen'; frozen: boolean }
  | { type: 'memory'; event: string; delta: number; total: number; limitOf: string | undefined }
  | { type: 'pids' | 'hugetlb' | 'misc'; event: string; delta: number; total: number }
  | { type: 'threshold'; bytes: number; usage: number }
  | { type: 'pressureLevel'; level: string; count: number }
  | { type: 'removed' };

/** What {@link Cgroup.events} watches. */
export interface EventOptions {
  /** Types of events; default all that the group has. */
  types?: readonly CgroupEvent['type'][];
  /** Ends it, with its reason. */
  signal?: AbortSignal;
  /** v1: tells when memory use crosses so many bytes, upwards or downwards. */
  thresholds?: readonly number[];
  /** v1: tells of memory pressure of this level and above. */
  pressureLevel?: 'low' | 'medium' | 'critical';
  /** How often to look where the kernel tells nothing, on v1: `populated` and `pids`; milliseconds, default 250. */
  pollMs?: number;
}

const types: readonly CgroupEvent['type'][] = [
  'populated',
  'frozen',
  'memory',
  'pids',
  'hugetlb',
  'misc',
  'threshold',
  'pressureLevel',
  'removed',
];

/** Watches a group. */
export function watchEvents(places: Places, options: EventOptions): Feed<CgroupEvent> {
  onlyKeys(options, 'the options of events', ['types', 'signal', 'thresholds', 'pressureLevel', 'pollMs']);
  for (const type of list(options.types, 'types')) choice(type, 'types', types);
  for (const threshold of list(options.thresholds, 'thresholds')) integer(threshold, 'thresholds', 0);
  if (options.pressureLevel !== undefined)
    choice(options.pressureLevel, 'pressureLevel', ['low', 'medium', 'critical']);
  if (options.pollMs !== undefined) integer(options.pollMs, 'pollMs', 1, 2 ** 31 - 1);
  return new Watch(places, options).feed;
}

const eventFiles: readonly [type: 'memory' | 'pids' | 'misc', file: string][] = [
  ['memory', 'memory.events'],
  ['pids', 'pids.events'],
  ['misc', 'misc.events'],
];

class Watch {
  readonly feed: Feed<CgroupEvent>;
  readonly #places: Places;
  readonly #options: EventOptions;
  readonly #sources: Source[] = [];
  readonly #files: StatFile[] = [];
  /** Asked by a file of its own: whoever removes the group closes its directory. */
  #isGone = () => false;

  constructor(places: Places, options: EventOptions) {
    this.#places = places;
    this.#options = options;
    const close = () => {
      for (const source of this.#sources.splice(0)) source.close();
      for (const file of this.#files.splice(0)) file.close();
    };
    this.feed = new Feed(merge, close, options.signal);
    if (this.feed.ended) return;
    try {
      this.#arm();
    } catch (error) {
      this.feed.end();
      throw error;
    }
  }

  #arm(): void {
    const { v2 } = this.#places;
    const main = v2 ?? this.#places.directories[0];
    if (main && main.path !== main.mount) {
      const fd = this.#file(main, main.version === 2 ? 'cgroup.events' : 'notify_on_release').keep();
      this.#isGone = () => attempt('pread64', fd, Buffer.alloc(1), 1, 0) === -E.NODEV;
      const look = this.#guarded(() => this.#isGone() && this.#gone());
      this.#sources.push(onSiblingRemoved(main, look));
    }
    this.#state(v2);
    for (const [type, file] of eventFiles) {
      const directory = this.#wants(type) ? this.#places.of(type) : undefined;
      if (directory?.version === 2) this.#counters(type, directory, file);
      else if (directory && type === 'pids') this.#counters(type, directory, file);
    }
    const hugetlb = this.#wants('hugetlb') ? this.#places.of('hugetlb') : undefined;
    if (hugetlb?.version === 2) {
      const files = hugetlb.files().filter((name) => /^hugetlb\.\w+\.events$/.test(name));
      for (const file of files) this.#counters('hugetlb', hugetlb, file);
    }
    const memory = this.#places.of('memory');
    if (memory?.version === 1) this.#legacyMemory(memory);
  }

  #wants(type: CgroupEvent['type']): boolean {
    return !this.#options.types || this.#options.types.includes(type);
  }

  /** Populated and frozen. */
  #state(v2: CgroupDirectory | undefined): void {
    const wants = (['populated', 'frozen'] as const).filter((type) => this.#wants(type));
    if (wants.length === 0) return;
    if (v2?.has('cgroup.events')) {
      const file = new StateFile(v2);
      this.#sources.push(file);
      let before = file.read();
      const look = this.#guarded(() => {
        const now = file.read();
        for (const type of wants) if (now[type] !== before[type]) this.#tell(type, now[type]);
        // It changed and changed back before anybody could look.
        const same = now.populated === before.populated && now.frozen === before.frozen;
        if (same && wants.includes('populated')) this.#tell('populated', now.populated);
        before = now;
      });
      file.watch(look);
    } else if (!v2 && wants.includes('populated')) {
      let before = membersOf(this.#places).length > 0;
      this.#poll(() => {
        const now = membersOf(this.#places).length > 0;
        if (now !== before) this.#tell('populated', now);
        before = now;
      });
    }
  }

  #tell(type: 'populated' | 'frozen', value: boolean): void {
    this.feed.push(type, type === 'populated' ? { type, populated: value } : { type, frozen: value });
  }

  /** Counters that only grow: what they grew by is told. */
  #counters(type: 'memory' | 'pids' | 'misc' | 'hugetlb', directory: CgroupDirectory, name: string): void {
    if (!directory.has(name)) return;
    const file = this.#file(directory, name);
    const culprit = type === 'memory' ? this.#culprit(directory) : undefined;
    let before: Counters | undefined;
    const look = this.#guarded(() => {
      const now = file.counters() ?? {};
      // One look at the limits above serves for all that grew at once.
      const limitOf = before && grew(before, now) ? culprit?.() : undefined;
      for (const [event, total = 0] of before ? Object.entries(now) : []) {
        const delta = total - (before?.[event] ?? 0);
        if (delta <= 0) continue;
        if (type === 'memory') {
          const origin = /^oom/.test(event) ? limitOf : undefined;
          this.feed.push(`memory ${event}`, { type, event, delta, total, limitOf: origin });
        } else this.feed.push(`${type} ${event}`, { type, event, delta, total });
      }
      before = now;
    });
    look();
    if (directory.version === 2) this.#sources.push(new FdWatcher(file.keep(), 'priority', look));
    else this.#poll(look);
  }

  /** Finds the group whose own `oom` counter grew: its limit it was. */
  #culprit(directory: CgroupDirectory): () => string | undefined {
    const chain: { path: string; file: StatFile; oom: number }[] = [];
    const owned: CgroupDirectory[] = [];
    for (let levels = 0; ; levels++) {
      const group = levels === 0 ? directory : directory.ancestor(levels);
      if (!group) break;
      if (levels > 0) owned.push(group);
      const file = this.#file(group, 'memory.events.local');
      chain.push({ path: group.path, file, oom: file.counters()?.oom ?? 0 });
    }
    for (const group of owned) this.#sources.push({ close: () => group[Symbol.dispose]() });
    let last: string | undefined;
    return () => {
      let found: string | undefined;
      for (const one of chain) {
        const oom = one.file.counters()?.oom ?? 0;
        if (oom > one.oom) found ??= one.path;
        one.oom = oom;
      }
      // The kill may be counted a moment after the shortage that led to it.
      last = found ?? last;
      return last;
    };
  }

  #legacyMemory(memory: CgroupDirectory): void {
    const { thresholds = [], pressureLevel } = this.#options;
    if (this.#wants('memory')) {
      const file = this.#file(memory, 'memory.oom_control');
      let kills = file.counters()?.oomKill ?? 0;
      let shortages = 0;
      const look = this.#guarded((count = 0) => {
        if (!memory.has('memory.oom_control')) return;
        shortages += count;
        if (count > 0) {
          this.feed.push('memory oom', {
            type: 'memory',
            event: 'oom',
            delta: count,
            total: shortages,
            limitOf: undefined,
          });
        }
        const total = file.counters()?.oomKill ?? 0;
        if (total > kills) {
          const delta = total - kills;
          this.feed.push('memory oomKill', { type: 'memory', event: 'oomKill', delta, total, limitOf: undefined });
        }
        kills = total;
      });
      this.#sources.push(onLegacyEvent(memory, 'memory.oom_control', '', look));
      // The kill comes after the shortage that is told.
      this.#poll(look);
    }
    for (const bytes of thresholds) {
      const happened = this.#guarded(() => {
        const usage = Number(memory.read('memory.usage_in_bytes'));
        this.feed.push(`threshold ${bytes}`, { type: 'threshold', bytes, usage });
      });
      this.#sources.push(onLegacyEvent(memory, 'memory.usage_in_bytes', String(bytes), happened));
    }
    if (pressureLevel !== undefined) {
      const happened = this.#guarded((count = 1) => {
        if (memory.has('memory.pressure_level')) {
          this.feed.push('pressureLevel', { type: 'pressureLevel', level: pressureLevel, count });
        }
      });
      this.#sources.push(onLegacyEvent(memory, 'memory.pressure_level', pressureLevel, happened));
    }
  }

  #poll(look: () => void): void {
    const timer = setInterval(this.#guarded(look), this.#options.pollMs ?? 250);
    this.#sources.push({ close: () => clearInterval(timer) });
  }

  #file(directory: CgroupDirectory, name: string): StatFile {
    const file = new StatFile(directory, name);
    this.#files.push(file);
    return file;
  }

  /** A group that is gone ends the watch; every other failure is the reader's. */
  #guarded(look: (count?: number) => void): (count?: number) => void {
    return (count) => {
      if (this.feed.ended) return;
      try {
        look(count);
      } catch (error) {
        if (CgroupError.is(error, 'removed') || this.#isGone()) this.#gone();
        else this.feed.fail(error);
      }
    };
  }

  #gone(): void {
    if (this.#wants('removed')) this.feed.push('removed', { type: 'removed' });
    this.feed.end();
  }
}

function grew(before: Counters, now: Counters): boolean {
  return Object.entries(now).some(([event, total = 0]) => /^oom/.test(event) && total > (before[event] ?? 0));
}

function merge(before: CgroupEvent, after: CgroupEvent): CgroupEvent {
  if ('delta' in before && 'delta' in after) return { ...after, delta: before.delta + after.delta };
  if ('count' in before && 'count' in after) return { ...after, count: before.count + after.count };
  return after;
}
