import type { StatFiles } from './open.js';

/** The group itself. */
export interface GroupStats {
  /** Whether there are processes, here or below. v2. */
  populated: boolean | undefined;
  /** Whether all of them stand still. */
  frozen: boolean | undefined;
  /** Who froze it: the group itself, or an ancestor. */
  frozenBy: 'self' | 'ancestor' | undefined;
  /** `domain`, `threaded`, `domain threaded`, `domain invalid`. v2. */
  type: string | undefined;
  nrDescendants: number | undefined;
  /** Removed groups that still hold memory. */
  nrDyingDescendants: number | undefined;
  maxDepth: number | 'max' | undefined;
  maxDescendants: number | 'max' | undefined;
  /** Controllers that may be enabled for children, and those that are. v2. */
  controllers: string[] | undefined;
  subtreeControl: string[] | undefined;
  /** Time that it stood still, microseconds. */
  frozenUsec: number | undefined;
}

/** Reads the group's own files. */
export function groupStats(v2: StatFiles | undefined, freezer: StatFiles | undefined): GroupStats | undefined {
  const file = (name: string) => v2?.file(`cgroup.${name}`);
  if (!v2 && !freezer) return undefined;
  const stat = file('stat')?.counters();
  const events = file('events')?.counters();
  const legacy = freezer?.version === 1 ? freezer.file('freezer.state').text() : undefined;
  const frozen =
    events?.frozen !== undefined ? events.frozen === 1 : legacy === undefined ? undefined : legacy === 'FROZEN';
  const self = file('freeze')?.flag() || (freezer?.version === 1 && freezer.file('freezer.self_freezing').flag());
  return {
    populated: events?.populated === undefined ? undefined : events.populated === 1,
    frozen,
    frozenBy: frozen ? (self ? 'self' : 'ancestor') : undefined,
    type: file('type')?.text(),
    nrDescendants: stat?.nrDescendants,
    nrDyingDescendants: stat?.nrDyingDescendants,
    maxDepth: file('max.depth')?.limit(),
    maxDescendants: file('max.descendants')?.limit(),
    controllers: words(file('controllers')?.text()),
    subtreeControl: words(file('subtree_control')?.text()),
    frozenUsec: file('stat.local')?.counters()?.frozenUsec,
  };
}

function words(text: string | undefined): string[] | undefined {
  return text?.split(' ').filter((word) => word !== '');
}
