import { readFileSync, statSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { fromOCI, type OciResources } from '@iso/cgroups';
import { RuntimeError } from '../error.js';
import type { Described } from './schema/schema.js';
import type { Config, HookConfig, LinuxConfig, ProcessConfig } from './spec.js';

/** A bundle as it was when it was read: later changes of its files change nothing. */
export interface Bundle {
  /** Absolute. */
  directory: string;
  config: Config;
}

/**
 * Reads a bundle's config.json.
 *
 * @param directory - of the bundle
 * @returns what it says
 * @throws {@link RuntimeError} for what is no configuration, and for what it asks of a host that has none of it
 */
export async function readBundle(directory: string): Promise<Bundle> {
  const bundle = resolve(directory);
  const path = join(bundle, 'config.json');
  const config = (await readAs('config', path)) as Config;
  checkConfig(config, path);
  return { directory: bundle, config };
}

/**
 * Reads the description of a process.
 *
 * @param path - of its JSON
 * @returns what it says
 * @throws {@link RuntimeError} for what is none
 */
export async function readProcess(path: string): Promise<ProcessConfig> {
  const process_ = (await readAs('process', path)) as ProcessConfig;
  checkProcess(process_, path);
  return process_;
}

/**
 * Reads limits.
 *
 * @param path - of their JSON, - for standard input
 * @returns what it says
 * @throws {@link RuntimeError} for what is none
 */
export async function readResources(path: string): Promise<OciResources> {
  const resources = (await readAs('resources', path)) as OciResources;
  checkUnified(resources, (what) => new RuntimeError(`${path}: ${what}`));
  return resources;
}

const MOST = 16 * 1024 * 1024;

/** What the specification's own schema has nothing against. That is loaded here: most commands read no such thing. */
async function readAs(what: Described, path: string): Promise<unknown> {
  const value = readJson(path);
  const { fault } = await import('./schema/schema.js');
  const wrong = within(path, () => fault(value, what));
  if (wrong !== undefined) throw new RuntimeError(`${path}: ${wrong}`);
  return value;
}

/** Whatever stands there: a FIFO would keep this waiting, and a file of gigabytes fill the memory. */
function readJson(path: string): unknown {
  const input = path === '-';
  const info = input ? undefined : statSync(path, { throwIfNoEntry: false });
  if (!input && !info?.isFile()) throw new RuntimeError(`${path} ${info ? 'is no regular file' : 'is not there'}`);
  if (info && info.size > MOST) throw new RuntimeError(`${path} is larger than ${MOST} bytes`);
  const text = readFileSync(input ? 0 : path, 'utf8');
  return within(path, () => JSON.parse(text));
}

/** What walks a document has as much room as one of a thousand levels needs. */
function within<T>(path: string, walk: () => T): T {
  try {
    return walk();
  } catch (error) {
    if (error instanceof RangeError) throw new RuntimeError(`${path} is nested too deeply`, { cause: error });
    if (error instanceof SyntaxError) throw new RuntimeError(`${path} is no JSON: ${error.message}`);
    throw error;
  }
}

function checkConfig(config: Config, path: string): void {
  const wrong = (what: string) => new RuntimeError(`${path}: ${what}`);
  if (!/^1\.\d+\.\d+/.test(config.ociVersion))
    throw wrong(`ociVersion is ${JSON.stringify(config.ociVersion)}, not 1.x.y`);
  if (!config.root?.path) throw wrong('root.path is missing');
  for (const { destination } of config.mounts ?? [])
    if (!isAbsolute(destination))
      throw wrong(`the destination of a mount is ${JSON.stringify(destination)}, no absolute path`);
  if (config.process) checkProcess(config.process, path);
  if (config.linux) checkLinux(config.linux, wrong);
  for (const [point, hooks] of Object.entries(config.hooks ?? {})) {
    if (!hookPoints.includes(point)) throw wrong(`no point of hooks is called ${JSON.stringify(point)}`);
    for (const hook of hooks ?? []) checkHook(hook, point, wrong);
  }
}

const hookPoints = ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop'];
/** Seconds: more is none to a timer. */
const LONGEST = 2 ** 21;

function checkHook({ path, timeout = 1 }: HookConfig, point: string, wrong: (what: string) => Error): void {
  if (!isAbsolute(path)) throw wrong(`hooks.${point}: path is ${JSON.stringify(path)}, no absolute path`);
  if (timeout >= LONGEST) throw wrong(`hooks.${point}: timeout is ${timeout}, more than ${LONGEST - 1} seconds`);
}

function checkProcess({ args = [], cwd, env = [], rlimits = [], ...more }: ProcessConfig, path: string): void {
  const wrong = (what: string) => new RuntimeError(`${path}: ${what}`);
  if (args.length === 0) throw wrong('process.args is no list of words');
  if (!isAbsolute(cwd)) throw wrong('process.cwd is no absolute path');
  if (env.some((variable) => !variable.includes('='))) throw wrong('process.env is no list of NAME=VALUE');
  const twice = firstTwice(rlimits.map(({ type }) => type));
  if (twice) throw wrong(`process.rlimits has ${twice} twice`);
  for (const name of ['apparmorProfile', 'selinuxLabel'] as const)
    if (more[name]) throw wrong(`process.${name} cannot be applied`);
}

const propagations = ['', 'private', 'rprivate', 'slave', 'rslave', 'shared', 'rshared'];

/** What is passed over would be less confinement than was asked for. */
function checkLinux(linux: LinuxConfig, wrong: (what: string) => RuntimeError): void {
  const types = (linux.namespaces ?? []).map(({ type }) => type);
  const twice = firstTwice(types);
  if (twice) throw wrong(`two namespaces of type ${twice}`);
  if (!types.includes('mount')) throw wrong('linux.namespaces has none of type mount: the root would be the host’s');
  const maps = (linux.uidMappings?.length ?? 0) + (linux.gidMappings?.length ?? 0);
  if (maps > 0 && !types.includes('user')) throw wrong('ids are mapped, and linux.namespaces has none of type user');
  if (!propagations.includes(linux.rootfsPropagation ?? ''))
    throw wrong(`linux.rootfsPropagation ${linux.rootfsPropagation} cannot be applied`);
  if (linux.resources) checkUnified(linux.resources, wrong);
  for (const { args } of linux.seccomp?.syscalls ?? [])
    for (const value of (args ?? []).flatMap((arg) => [arg.value, arg.valueTwo ?? 0]))
      if (value > Number.MAX_SAFE_INTEGER)
        throw wrong(`linux.seccomp: ${value} is above 2^53 - 1, of which JSON is not read exactly`);
  for (const name of ['intelRdt', 'mountLabel', 'memoryPolicy', 'netDevices'] as const)
    if (linux[name]) throw wrong(`linux.${name} cannot be applied`);
}

function firstTwice<T>(list: readonly T[]): T | undefined {
  return list.find((one, i) => list.indexOf(one) !== i);
}

/** A file that moves or ends processes would do that to those of the host. */
function checkUnified({ unified }: Pick<OciResources, 'unified'>, wrong: (what: string) => RuntimeError): void {
  if (!unified) return;
  try {
    fromOCI({ unified });
  } catch (error) {
    throw wrong((error as Error).message);
  }
}
