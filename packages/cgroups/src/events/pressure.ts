import { attempt, type Fd, FdWatcher, invalid, O, UnsupportedError } from '@iso/sys';
import { E } from '../error.js';
import { checkSignal } from '../options.js';
import type { CgroupDirectory } from '../raw/directory.js';
import { parsePressure } from '../stats/pressure.js';
import { choice, onlyKeys } from '../value.js';
import { Feed } from './feed.js';

/** When a {@link PressureTrigger} fires. */
export interface PressureOptions {
  /** Whether it counts when some task, or when all tasks stand still; default `some`. */
  kind?: 'some' | 'full';
  /** Microseconds of standstill within the window. */
  stallUs: number;
  /**
   * Microseconds, up to 10,000,000; older kernels take no less than 500,000. Without CAP_SYS_RESOURCE newer ones take multiples of
   * 2,000,000 only.
   */
  windowUs: number;
  /** Ends it, with its reason. */
  signal?: AbortSignal;
}

/** What was lost. */
export interface PressureEvent {
  /** Microseconds of standstill since the last event, or since the trigger was set. */
  stalledUs: number;
  /** Microseconds of standstill since the group is there. */
  totalUs: number;
}

/** Events of a pressure trigger; at the most one in each window. */
export interface PressureTrigger extends AsyncIterableIterator<PressureEvent>, Disposable {}

/** Sets a trigger. */
export function openPressure(
  directory: CgroupDirectory | undefined,
  resource: 'cpu' | 'memory' | 'io' | 'irq',
  options: PressureOptions,
): PressureTrigger {
  choice(resource, 'resource', ['cpu', 'memory', 'io', 'irq']);
  onlyKeys(options, 'the options of pressure', ['kind', 'stallUs', 'windowUs', 'signal']);
  const { kind = 'some', stallUs, windowUs, signal } = options;
  const whole = (value: unknown) => Number.isSafeInteger(value) && (value as number) > 0;
  if (!whole(stallUs) || !whole(windowUs) || stallUs > windowUs) {
    throw invalid(`stallUs and windowUs must be whole microseconds, the first not above the second`);
  }
  choice(kind, 'kind', ['some', 'full']);
  checkSignal(signal);
  const file = `${resource}.pressure`;
  if (!directory?.has(file)) {
    throw new UnsupportedError(file, 'there is no such file: pressure accounting is off, or there is no v2 tree');
  }
  const fd = directory.openFd(file, O.RDWR);
  // Some files take the last byte for the end of the text.
  const text = `${kind} ${stallUs} ${windowUs}\0`;
  const result = attempt('write', fd, Buffer.from(text), text.length);
  if (result < 0) {
    fd.close();
    if (result === -E.OPNOTSUPP) throw new UnsupportedError(file, 'pressure accounting is off (psi=0)');
    const error = directory.failure(result, 'write', file, text.slice(0, -1));
    if (result === -E.INVAL && windowUs % 2_000_000 !== 0) {
      const hint = 'without CAP_SYS_RESOURCE the window is a multiple of 2,000,000 us';
      Object.assign(error, { hint, message: `${error.message}; ${hint}` });
    }
    throw error;
  }
  return new Trigger(directory, file, kind, stallUs, fd, signal);
}

class Trigger extends Feed<PressureEvent> implements PressureTrigger {
  constructor(
    directory: CgroupDirectory,
    file: string,
    kind: 'some' | 'full',
    stallUs: number,
    fd: Fd,
    signal: AbortSignal | undefined,
  ) {
    let watcher: FdWatcher | undefined;
    const merge = (before: PressureEvent, after: PressureEvent) => ({
      ...after,
      stalledUs: before.stalledUs + after.stalledUs,
    });
    const close = () => {
      watcher?.close();
      fd.close();
    };
    super(merge, close, signal);
    if (this.ended) return;
    const text = Buffer.alloc(512);
    // By the trigger's own descriptor: whoever removes the group closes its directory.
    const total = () => {
      const length = attempt('pread64', fd, text, text.length, 0);
      if (length === -E.NODEV || length === -E.OPNOTSUPP) return undefined;
      if (length < 0) throw directory.failure(length, 'read', file);
      return parsePressure(text.toString('latin1', 0, length))?.[kind]?.totalUsec;
    };
    let last = total() ?? 0;
    watcher = new FdWatcher(fd, 'priority', () => {
      try {
        const now = total();
        if (now === undefined) return this.end();
        // Without privilege the kernel seeds the trigger with another total, and the first one comes too soon.
        if (now - last < stallUs) return;
        this.push('stall', { stalledUs: now - last, totalUs: now });
        last = now;
      } catch (error) {
        this.fail(error);
      }
    });
  }

  /** Takes the trigger away. */
  [Symbol.dispose](): void {
    this.end();
  }
}
