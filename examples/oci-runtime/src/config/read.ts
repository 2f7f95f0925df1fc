import { readFileSync, statSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { RuntimeError } from '../error.js';
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
export function readBundle(directory: string): Bundle {
  const bundle = resolve(directory);
  const path = join(bundle, 'config.json');
  const config = readJson(path) as Config;
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
export function readProcess(path: string): ProcessConfig {
  const process_ = readJson(path) as ProcessConfig;
  checkProcess(process_, path);
  return process_;
}

const MOST = 16 * 1024 * 1024;

/** Whatever stands there: a FIFO would keep this waiting, and a file of gigabytes fill the memory. */
function readJson(path: string): unknown {
  const info = statSync(path, { throwIfNoEntry: false });
  if (!info?.isFile()) throw new RuntimeError(`${path} ${info ? 'is no regular file' : 'is not there'}`);
  if (info.size > MOST) throw new RuntimeError(`${path} is larger than ${MOST} bytes`);
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new RuntimeError(`${path} is no JSON: ${(error as Error).message}`);
  }
}

function checkConfig(config: Config, path: string): void {
  const wrong = (what: string) => new RuntimeError(`${path}: ${what}`);
  if (typeof config !== 'object' || config === null) throw wrong('no object');
  if (!/^1\.\d+\.\d+/.test(config.ociVersion ?? ''))
    throw wrong(`ociVersion is ${JSON.stringify(config.ociVersion)}, not 1.x.y`);
  if (typeof config.root?.path !== 'string' || config.root.path === '') throw wrong('root.path is missing');
  for (const mount of config.mounts ?? []) {
    if (typeof mount?.destination !== 'string' || !isAbsolute(mount.destination))
      throw wrong(`the destination of a mount is ${JSON.stringify(mount?.destination)}, no absolute path`);
  }
  if (config.process) checkProcess(config.process, path);
  if (config.linux) checkLinux(config.linux, wrong);
  for (const [point, hooks] of Object.entries(config.hooks ?? {})) {
    if (!hookPoints.includes(point)) throw wrong(`no point of hooks is called ${JSON.stringify(point)}`);
    for (const hook of hooks ?? []) checkHook(hook, point, wrong);
  }
  if (config.hooks?.createContainer?.length) throw wrong('hooks.createContainer cannot be run');
}

const hookPoints = ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop'];

function checkHook({ path, args, env, timeout }: HookConfig, point: string, wrong: (what: string) => Error): void {
  const words = (list: unknown) =>
    list === undefined || (Array.isArray(list) && list.every((one) => typeof one === 'string'));
  if (typeof path !== 'string' || !isAbsolute(path)) throw wrong(`hooks.${point}: path is no absolute path`);
  if (!words(args) || !words(env)) throw wrong(`hooks.${point}: args and env are lists of words`);
  if (timeout !== undefined && !(Number.isInteger(timeout) && timeout > 0 && timeout < 2 ** 21))
    throw wrong(`hooks.${point}: timeout is no number of seconds`);
}

function checkProcess(process_: ProcessConfig, path: string): void {
  const wrong = (what: string) => new RuntimeError(`${path}: ${what}`);
  const { args, cwd, env = [] } = process_;
  if (!Array.isArray(args) || args.length === 0 || args.some((arg) => typeof arg !== 'string'))
    throw wrong('process.args is no list of words');
  if (typeof cwd !== 'string' || !isAbsolute(cwd)) throw wrong('process.cwd is no absolute path');
  if (!Array.isArray(env) || env.some((variable) => typeof variable !== 'string' || !variable.includes('=')))
    throw wrong('process.env is no list of NAME=VALUE');
  for (const name of ['apparmorProfile', 'selinuxLabel'] as const)
    if (process_[name]) throw wrong(`process.${name} cannot be applied`);
}

const propagations = ['', 'private', 'rprivate', 'slave', 'rslave', 'shared', 'rshared'];

/** What is passed over would be less confinement than was asked for. */
function checkLinux(linux: LinuxConfig, wrong: (what: string) => RuntimeError): void {
  const types = (linux.namespaces ?? []).map(({ type }) => type);
  const twice = types.find((type, i) => types.indexOf(type) !== i);
  if (twice) throw wrong(`two namespaces of type ${twice}`);
  if (!types.includes('mount')) throw wrong('linux.namespaces has none of type mount: the root would be the host’s');
  if (!propagations.includes(linux.rootfsPropagation ?? ''))
    throw wrong(`linux.rootfsPropagation ${linux.rootfsPropagation} cannot be applied`);
  for (const name of ['intelRdt', 'mountLabel'] as const)
    if (linux[name]) throw wrong(`linux.${name} cannot be applied`);
}
