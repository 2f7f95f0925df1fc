import { checkName, UsageError } from '../options.js';
import type { RunFlags } from '../recipe.js';
import { resourceShape } from '../resources.js';
import { isOfShape, type Shape } from '../shape.js';
import { parseRestart } from '../supervise/restart.js';
import { type ContainerState, statuses } from './document.js';

const required = {
  id: 'text',
  name: 'text',
  createdAt: 'text',
  root: 'text',
  command: 'a list of texts',
  flags: 'an object',
  labels: 'an object',
  status: 'text',
  restartCount: 'number',
  autoRemove: 'true or false',
} as const satisfies Partial<Record<keyof ContainerState, Shape>>;

const possible: Readonly<Record<Exclude<keyof ContainerState, keyof typeof required | 'version'>, Shape>> = {
  image: 'text',
  storageDriver: 'text',
  line: 'a list of texts',
  pid: 'number',
  pidStart: 'text',
  cgroup: 'text',
  confinement: 'an object',
  exitCode: 'number',
  error: 'text',
  oomKilled: 'true or false',
  startedAt: 'text',
  finishedAt: 'text',
  stopped: 'true or false',
  healthcheck: 'an object',
  health: 'an object',
};

const flagShape: Readonly<Record<keyof RunFlags, Shape>> = {
  ...resourceShape,
  rm: 'true or false',
  restart: 'text',
  logDriver: 'text',
  logOpt: 'a list of texts',
  stopSignal: 'text',
  stopTimeout: 'number',
  label: 'a list of texts',
  labelFile: 'a list of texts',
  detach: 'true or false',
  detachKeys: 'text',
  sigProxy: 'true or false',
  name: 'text',
  interactive: 'true or false',
  tty: 'true or false',
  workdir: 'text',
  user: 'text',
  volume: 'a list of texts',
  readOnly: 'true or false',
  tmpfs: 'a list of texts',
  hostname: 'text',
  device: 'a list of objects',
  cgroupParent: 'text',
  userns: 'text',
  init: 'true or false',
  entrypoint: 'text',
  pull: 'text',
  storageDriver: 'text',
  storageOpt: 'number',
  network: 'a list of texts',
  publish: 'a list of texts',
  publishAll: 'true or false',
  expose: 'a list of texts',
  ip: 'text',
  ip6: 'text',
  macAddress: 'text',
  dns: 'a list of texts',
  dnsSearch: 'a list of texts',
  addHost: 'a list of texts',
  networkAlias: 'a list of texts',
  bandwidthIn: 'text',
  bandwidthOut: 'text',
  egressAllow: 'a list of texts',
  capAdd: 'a list of texts',
  capDrop: 'a list of texts',
  privileged: 'true or false',
  securityOpt: 'a list of texts',
  ulimit: 'a list of texts',
  sysctl: 'a list of texts',
  shmSize: 'number',
  ipc: 'text',
  pid: 'text',
  uts: 'text',
  cgroupns: 'text',
  groupAdd: 'a list of texts',
  env: 'a list of texts',
  envFile: 'a list of texts',
  healthCmd: 'text',
  healthInterval: 'number',
  healthTimeout: 'number',
  healthStartPeriod: 'number',
  healthStartInterval: 'number',
  healthRetries: 'number',
  healthcheck: 'true or false',
};

/**
 * Refuses what is no record of a container: what reads one trusts that each part is what it is called.
 *
 * @param value - JSON of a file
 * @param id - of the container whose file it is
 * @returns the same
 * @throws {@link UsageError} where it is of another version, or damaged
 */
export function checkState(value: unknown, id: string): ContainerState {
  const state = value as ContainerState;
  if (state?.version !== 2 || state.id !== id) throw new UsageError('it is of another version of iso');
  for (const name of Object.keys(required)) if (!Object.hasOwn(state, name)) throw new UsageError(`it has no ${name}`);
  check(state, { ...required, ...possible }, '');
  check(state.flags, flagShape, 'flags.');
  if (!statuses.includes(state.status)) throw new UsageError(`its status is ${JSON.stringify(state.status)}`);
  if (state.pid !== undefined && !(Number.isSafeInteger(state.pid) && state.pid > 0))
    throw new UsageError(`its pid is ${state.pid}`);
  if (!isOfShape(Object.values(state.labels), 'a list of texts')) throw new UsageError('a label is no text');
  checkName(state.name);
  parseRestart(state.flags.restart ?? 'no');
  return state;
}

/** What this version does not know is left alone. */
function check(object: object, shapes: Readonly<Record<string, Shape>>, of: string): void {
  for (const [name, shape] of Object.entries(shapes)) {
    const value = Object.hasOwn(object, name) ? (object as Record<string, unknown>)[name] : undefined;
    if (value !== undefined && !isOfShape(value, shape)) throw new UsageError(`${of}${name} is not ${shape}`);
  }
}
