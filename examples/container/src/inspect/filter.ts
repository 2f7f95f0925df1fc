import { UsageError } from '../options.js';
import type { ContainerState } from '../state/record.js';
import { parseRestart } from '../supervise/restart.js';

const names = [
  'id',
  'name',
  'label',
  'status',
  'exited',
  'health',
  'ancestor',
  'restart-policy',
  'should-start-on-boot',
] as const;

/** Docker's `--filter`: of one name any may match, of several names all must. */
export type Filters = Partial<Record<(typeof names)[number], string[]>>;

/**
 * Parses one.
 *
 * @param text - `NAME=VALUE`
 * @param before - those before
 * @returns all
 * @throws {@link UsageError} for names that there are not
 */
export function parseFilter(text: string, before: Filters = {}): Filters {
  const [name = '', value] = text.split(/=(.*)/s);
  const known = names.find((one) => one === name);
  if (!known || value === undefined)
    throw new UsageError(
      `not a filter: ${JSON.stringify(text)}, there are ${names.map((one) => `${one}=`).join(', ')}`,
    );
  return { ...before, [known]: [...(before[known] ?? []), value] };
}

/** Whether a container is one of those that were asked for. */
export function matches(container: ContainerState, filters: Filters): boolean {
  const { id, name, root, status, exitCode, labels, health } = container;
  const { name: policy } = parseRestart(container.flags.restart ?? 'no');
  const tests: Record<keyof Filters, (value: string) => boolean> = {
    id: (value) => id.startsWith(value),
    // As docker: any part of the name.
    name: (value) => name.includes(value) || isMatch(value, name),
    label: (value) => hasLabel(labels, value),
    status: (value) => status === value,
    exited: (value) => status === 'exited' && String(exitCode) === value,
    health: (value) => value === (health?.Status ?? 'none'),
    ancestor: (value) => root === value || root === `${value}:latest`,
    'restart-policy': (value) => value === policy,
    // As docker when it starts: what a command has ended stays so, but for `always`.
    'should-start-on-boot': (value) =>
      value === String(policy === 'always' || (policy === 'unless-stopped' && !container.stopped)),
  };
  return names.every((one) => {
    const values = filters[one];
    // All labels that are named, as docker's.
    return !values || (one === 'label' ? values.every(tests.label) : values.some(tests[one]));
  });
}

/**
 * Whether labels have one.
 *
 * @param labels - values by name
 * @param wanted - `NAME` or `NAME=VALUE`
 */
export function hasLabel(labels: Readonly<Record<string, string>>, wanted: string): boolean {
  const [key = '', value] = wanted.split(/=(.*)/s);
  return Object.hasOwn(labels, key) && (value === undefined || labels[key] === value);
}

function isMatch(pattern: string, text: string): boolean {
  try {
    return new RegExp(pattern).test(text);
  } catch {
    return false;
  }
}
