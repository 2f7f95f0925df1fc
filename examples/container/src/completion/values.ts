import { constants } from 'node:os';
import { capabilityNames } from '@iso/capabilities';
import type { Command, Option } from 'commander';
import type { Filters } from '../inspect/filter.js';
import { statuses } from '../state/document.js';
import type { Names } from './complete.js';

/** What is looked up when it is asked for. */
type Values = (names: Names) => Promise<readonly string[]> | readonly string[];

const signals = () => Object.keys(constants.signals).map((name) => name.replace(/^SIG/, ''));
const capabilities = () => ['ALL', ...capabilityNames];
const restarts = ['no', 'always', 'unless-stopped', 'on-failure', 'on-failure:'];
const shared =
  (...words: string[]): Values =>
  async (names) => [...words, ...(await names('container')).map((name) => `container:${name}`)];

/** Those of options that commander knows no choices of, for they can be something else besides. */
const values: Readonly<Record<string, Values>> = {
  '--restart': () => restarts,
  '--network': async (names) => [
    'none',
    'host',
    'pasta',
    'slirp4netns',
    ...(await names('network')),
    ...(await names('container')).map((name) => `container:${name}`),
  ],
  '--ipc': shared('private', 'shareable', 'none', 'host'),
  '--pid': shared('host'),
  '--cap-add': capabilities,
  '--cap-drop': capabilities,
  '--security-opt': () => [
    'seccomp=unconfined',
    'seccomp=builtin',
    'no-new-privileges',
    'no-new-privileges=false',
    'systempaths=unconfined',
  ],
  '--signal': signals,
  '--stop-signal': signals,
};

const filters: Readonly<Record<keyof Filters, Values>> = {
  id: () => [''],
  name: (names) => names('container'),
  label: () => [''],
  status: () => statuses.filter((status) => status !== 'creating' && status !== 'removing'),
  exited: () => [''],
  health: () => ['starting', 'healthy', 'unhealthy', 'none'],
  ancestor: (names) => names('image'),
  'restart-policy': () => restarts.filter((policy) => !policy.endsWith(':')),
  'should-start-on-boot': () => ['true', 'false'],
};

const eventFilters: Readonly<Record<string, Values>> = {
  container: (names) => names('container'),
  event: () => ['create', 'start', 'die', 'stop', 'kill', 'oom', 'pause', 'unpause', 'destroy', 'health_status'],
  image: (names) => names('image'),
  label: () => [''],
  type: () => ['container'],
};

/**
 * What the value of an option may be.
 *
 * @param command - whose option it is
 * @param option - it
 * @param names - looks names up
 * @returns words; undefined where only the shell knows, files for example
 */
export async function valuesOf(
  command: Command,
  { argChoices, long }: Option,
  names: Names,
): Promise<readonly string[] | undefined> {
  if (argChoices) return argChoices;
  if (long === '--filter') return assigned(command.name() === 'events' ? eventFilters : filters, names);
  return long === undefined || !Object.hasOwn(values, long) ? undefined : await values[long]?.(names);
}

async function assigned(all: Readonly<Record<string, Values>>, names: Names): Promise<string[]> {
  const found = Object.entries(all).map(async ([name, of]) => (await of(names)).map((value) => `${name}=${value}`));
  return (await Promise.all(found)).flat();
}
