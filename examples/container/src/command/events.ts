import { Command } from 'commander';
import { type ContainerEvent, eventsFile } from '../events/emit.js';
import { hasLabel } from '../inspect/filter.js';
import { checkTemplate, render } from '../inspect/template.js';
import { rotatedEntries } from '../log/lines.js';
import { parseTime } from '../log/time.js';
import { UsageError } from '../options.js';
import { say } from '../say.js';
import { home } from '../state/home.js';

type EventFilters = Partial<Record<'container' | 'event' | 'image' | 'label' | 'type', string[]>>;

interface EventsFlags {
  since?: number;
  until?: number;
  filter?: EventFilters;
  format?: string;
}

/** `iso events`. */
export const events = new Command('events')
  .description('print what happens to containers, as it happens')
  .option(
    '--since <time>',
    'and what happened since then: 2026-01-31T12:00:00Z, seconds since 1970, or 10m ago',
    parseTime,
  )
  .option('--until <time>', 'no longer than then', parseTime)
  .option('-f, --filter <filter>', 'container=, event=, image=, label=, type=', parseEventFilter)
  .option('--format <format>', 'json, or a template, such as {{.Action}}')
  .action(async (flags: EventsFlags) => {
    const { since, until, filter = {}, format } = flags;
    if (format !== undefined) checkTemplate(format);
    const abort = new AbortController();
    const timer =
      until === undefined
        ? undefined
        : setTimeout(() => abort.abort(), Math.min(Math.max(0, until - Date.now()), 2 ** 31 - 1));
    const told = rotatedEntries<ContainerEvent>(eventsFile(home()), {
      ...(since === undefined ? { last: 0 } : {}),
      until: () => abort.signal.aborted || (until !== undefined && Date.now() >= until),
      signal: abort.signal,
    });
    try {
      for await (const event of told) {
        if (process.stdout.destroyed) return;
        const ms = event.timeNano / 1e6;
        if (until !== undefined && ms > until) return;
        if ((since === undefined || ms >= since) && isWanted(event, filter))
          say(process.stdout, `${text(event, format)}\n`);
      }
    } finally {
      clearTimeout(timer);
    }
  });

function parseEventFilter(given: string, before: EventFilters = {}): EventFilters {
  const [name = '', value] = given.split(/=(.*)/s);
  const known = (['container', 'event', 'image', 'label', 'type'] as const).find((one) => one === name);
  if (!known || value === undefined)
    throw new UsageError(`not a filter: ${JSON.stringify(given)}, there are container=, event=, image=, label=, type=`);
  return { ...before, [known]: [...(before[known] ?? []), value] };
}

function isWanted({ id, Action, Type, from, Actor }: ContainerEvent, filters: EventFilters): boolean {
  const { name = '' } = Actor.Attributes;
  const any = (values: readonly string[] | undefined, is: (value: string) => boolean) => !values || values.some(is);
  return (
    any(filters.container, (value) => value === name || (value.length > 0 && id.startsWith(value))) &&
    // As docker: `health_status` is each `health_status: …`.
    any(filters.event, (value) => value === Action || Action.startsWith(`${value}: `)) &&
    any(filters.image, (value) => value === from) &&
    any(filters.type, (value) => value === Type) &&
    (filters.label ?? []).every((value) => hasLabel(Actor.Attributes, value))
  );
}

/** Docker's line, where nothing else is asked for. */
function text(event: ContainerEvent, format: string | undefined): string {
  if (format === 'json') return JSON.stringify(event);
  if (format !== undefined) return render(format, event);
  const attributes = Object.entries(event.Actor.Attributes).sort(([a], [b]) => (a < b ? -1 : 1));
  const list = attributes.map(([key, value]) => `${key}=${value}`).join(', ');
  return `${new Date(event.timeNano / 1e6).toISOString()} ${event.Type} ${event.Action} ${event.id} (${list})`;
}
