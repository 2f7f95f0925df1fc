import type { Controller } from './controller.js';
import { apply } from './limits/apply.js';
import type { Limits } from './limits/limits.js';
import { type PlanOptions, plan, type Write } from './limits/plan.js';
import { needNonblocking } from './nonblock.js';
import type { SetOptions } from './options.js';
import type { Places } from './places.js';
import { belowUsage, shrink } from './shrink.js';
import { bytes } from './value.js';

type Read = NonNullable<PlanOptions['read']>;

/**
 * The writes that limits need in a group's directories.
 *
 * @param places - its directories
 * @param limits - what is wanted
 * @param options - what to do about limits that a version lacks; how to read what is in place, default the files
 */
export function planIn(
  places: Places,
  limits: Limits,
  { onUnsupported, read = readIn(places) }: Pick<SetOptions, 'onUnsupported'> & { read?: Read },
): Write[] {
  return plan(limits, {
    version: (controller) => places.versionOf(controller),
    read,
    ...(onUnsupported ? { onUnsupported } : {}),
  });
}

/** Sets limits of a group that is there. */
export async function setIn(places: Places, limits: Limits, options: SetOptions): Promise<void> {
  planIn(places, limits, options);
  const max = limits.memory?.max === undefined ? 'max' : bytes(limits.memory.max, 'memory.max');
  if (options.lowering === 'nonblock') needNonblocking(places.homeOf('memory'));
  else if (max !== 'max') await makeRoom(places, max, options);
  const writes = planIn(places, limits, options);
  const nonblock = options.lowering === 'nonblock';
  apply(nonblock ? writes.map(withoutBlocking) : writes, ({ controller }) => places.homeOf(controller));
}

/** `memory.high` reclaims before it returns, too. */
function withoutBlocking(write: Write): Write {
  return write.file === 'memory.max' || write.file === 'memory.high' ? { ...write, nonblock: true } : write;
}

/** Sets limits of a group that was just made: they are the kernel's defaults; which files it has for I/O is the machine's. */
export function setInNew(places: Places, limits: Limits, options: Pick<SetOptions, 'onUnsupported'>): void {
  const weights: Read = (controller, file) => (file.endsWith('weight') ? readIn(places)(controller, file) : undefined);
  apply(planIn(places, limits, { ...options, read: weights }), ({ controller }) => places.homeOf(controller), true);
}

function readIn(places: Places): Read {
  return (controller: Controller | 'cgroup', file: string) => places.of(controller)?.read(file);
}

async function makeRoom(places: Places, max: number, { lowering = 'refuse', ...wait }: SetOptions): Promise<void> {
  const memory = places.homeOf('memory');
  const used = Number(memory.read(memory.version === 2 ? 'memory.current' : 'memory.usage_in_bytes') ?? 0);
  if (used <= max || lowering === 'force') return;
  if (lowering === 'refuse') throw belowUsage(memory, max, used);
  await shrink(memory, max, wait);
}
