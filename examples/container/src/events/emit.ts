import { join } from 'node:path';
import { RotatedFile } from '../log/rotated.js';
import type { ContainerState } from '../state/document.js';

/** What may happen to a container, docker's words. */
type EventAction =
  | 'create'
  | 'start'
  | 'restart'
  | 'stop'
  | 'kill'
  | 'die'
  | 'oom'
  | 'pause'
  | 'unpause'
  | 'rename'
  | 'update'
  | 'attach'
  | 'detach'
  | `health_status: ${'healthy' | 'unhealthy'}`
  | 'destroy';

/** What others are told: what happened, and what else is to be known of it. */
export type Told = EventAction | readonly [EventAction, Record<string, string>];

/** Something that happened, in docker's form. */
export interface ContainerEvent {
  status: EventAction;
  id: string;
  from: string;
  Type: 'container';
  Action: EventAction;
  Actor: { ID: string; Attributes: Record<string, string> };
  scope: 'local';
  /** Seconds. */
  time: number;
  timeNano: number;
}

const MOST_BYTES = 1 << 20;
const FILES = 2;

/** Path of the file that events are added to, a line each. */
export function eventsFile(home: string): string {
  return join(home, 'events.json');
}

/**
 * Tells those who watch. Under the lock of all, so that one at a time adds to the file.
 *
 * @param home - where state is kept
 * @param told - what happened
 * @param container - to whom
 */
export function emit(home: string, told: Told, container: ContainerState): void {
  const [action, more] = typeof told === 'string' ? [told, {}] : told;
  const { id, name, root, labels } = container;
  const ms = Date.now();
  const event: ContainerEvent = {
    status: action,
    id,
    from: root,
    Type: 'container',
    Action: action,
    Actor: { ID: id, Attributes: { ...labels, ...more, image: root, name } },
    scope: 'local',
    time: Math.floor(ms / 1000),
    timeNano: ms * 1e6,
  };
  try {
    using file = RotatedFile.open(eventsFile(home), { maxBytes: MOST_BYTES, files: FILES });
    file.append(`${JSON.stringify(event)}\n`);
  } catch {
    // A full disk: what happened has happened, whether it can be told or not.
  }
}
