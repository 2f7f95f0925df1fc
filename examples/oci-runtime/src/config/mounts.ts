import { normalize, resolve } from 'node:path';
import {
  attributes,
  type BindSpec,
  type MountSource,
  type MountSpec,
  MS,
  mountAttr,
  mountTable,
  newMount,
  rootfs,
} from '@iso/mounts';
import { UserNamespace } from '@iso/namespaces';
import { AT, type LaunchProgram, type Part } from '@iso/sys';
import { RuntimeError } from '../error.js';
import { copyUp } from './copy-up.js';
import { devMount } from './dev.js';
import { deviceMounts } from './devices.js';
import { haltsForHooks } from './hooks.js';
import { type MountWords, readOptions } from './mount-options.js';
import { range } from './namespaces.js';
import type { Bundle } from './read.js';
import type { Config, IdMapping, MountConfig } from './spec.js';

/**
 * The root of a configuration, with everything that is mounted in it.
 *
 * @param bundle - of the container
 * @returns parts of the launch
 * @throws {@link RuntimeError} for mounts that cannot be made as they are meant
 */
export function rootOf(bundle: Bundle): Part[] {
  const { rootfsPropagation } = bundle.config.linux ?? {};
  const root: Part = { confine: (program) => rootfs(optionsOf(bundle, program)).confine(program) };
  return rootfsPropagation ? [root, propagation(rootfsPropagation)] : [root];
}

function optionsOf({ directory, config }: Bundle, program: LaunchProgram): Parameters<typeof rootfs>[0] {
  const { root, linux = {}, process: first } = config;
  const mounts = withDev(config.mounts ?? []);
  const path = rootPath({ directory, config });
  const ownDev = mounts.some(({ destination, type }) => isDev(destination) && type === 'tmpfs');
  const cwd = first?.cwd ?? '/';
  return {
    directory: path,
    readonly: root?.readonly ?? false,
    mounts: [
      ...mounts.map((mount, i) =>
        specOf(mount, { program, bundle: directory, config, root: path, before: mounts.slice(0, i) }),
      ),
      ...deviceMounts(config, ownDev),
      // As other runtimes do for an image whose working directory none of its layers has.
      ...(cwd === '/' || root?.readonly ? [] : [{ type: 'directory' as const, target: cwd }]),
    ],
    // Where such hooks look for it.
    ...(haltsForHooks(config) ? { mountpoint: path } : {}),
    maskedPaths: linux.maskedPaths ?? [],
    readonlyPaths: linux.readonlyPaths ?? [],
  };
}

/**
 * Where the host has the root of a configuration.
 *
 * @param bundle - of the container
 * @returns absolute
 */
export function rootPath({ directory, config }: Bundle): string {
  return resolve(directory, config.root?.path as string);
}

/** The specification promises devices to each container: one that says nothing of /dev has them on a memory file system too. */
function withDev(mounts: readonly MountConfig[]): readonly MountConfig[] {
  if (mounts.some(({ destination }) => isDev(destination))) return mounts;
  const options = ['nosuid', 'strictatime', 'mode=755', 'size=65536k'];
  return [{ destination: '/dev', type: 'tmpfs', source: 'tmpfs', options }, ...mounts];
}

const isDev = (path: string) => normalize(path).replace(/(?<=.)\/$/, '') === '/dev';

const propagations = { private: MS.PRIVATE, slave: MS.SLAVE, shared: MS.SHARED, unbindable: MS.UNBINDABLE } as const;

/** Of the root, and with an `r` in front of all that is mounted in it. Nothing of the host's is ever a peer of it. */
function propagation(word: string): Part {
  const deep = word.startsWith('r') ? MS.REC : 0;
  const how = propagations[word.replace(/^r/, '') as keyof typeof propagations];
  return {
    confine: (program) =>
      void program.step('root', 'mount', [null, '/', null, how | deep, null], { text: `mount("/", MS_${word})` }),
  };
}

/** Where a mount is made. */
interface Place {
  program: LaunchProgram;
  bundle: string;
  config: Config;
  /** Of the host. */
  root: string;
  /** What is mounted by then. */
  before: readonly MountConfig[];
}

function specOf(mount: MountConfig, place: Place): MountSpec {
  const { destination: target, type = 'none', source, options = [] } = mount;
  const words = readOptions(options);
  const { flags, data } = words;
  if (type === 'bind' || words.bind) return bindOf(mount, words, place);
  if (words.mapped || mount.uidMappings || mount.gidMappings)
    throw new RuntimeError(`${target}: ids are mapped of binds alone`);
  switch (type) {
    case 'proc':
      return { type, target, ...flags, ...(data as { hidepid?: 'off'; subset?: 'pid' }) };
    case 'sysfs':
    case 'mqueue':
      refuse(target, data);
      return { type, target, ...flags };
    case 'devpts':
      // A new one each time, with the modes that all ask for.
      refuse(target, without(data, ['newinstance', 'ptmxmode', 'mode', 'gid', 'uid']));
      return { type, target, ...flags };
    case 'cgroup':
    case 'cgroup2':
      return { type: 'cgroup', target, readonly: flags.readonly ?? false };
    case 'tmpfs':
      return isDev(target)
        ? devMount(place.config, { flags, parameters: { ...(source ? { source } : {}), ...data } })
        : { type: 'mount', source: memory(target, source, words, place), target };
    default:
      return { type: 'mount', source: fresh(type, source, words), target };
  }
}

function bindOf(mount: MountConfig, words: MountWords, { bundle, config, program }: Place): BindSpec {
  const { destination: target, source } = mount;
  const { flags, clear, data, propagation: travels = 'private' } = words;
  if (!source) throw new RuntimeError(`${target}: a bind without a source`);
  refuse(target, data);
  if (travels === 'unbindable') throw new RuntimeError(`${target}: a bind that is unbindable`);
  const path = resolve(bundle, source);
  const recursive = words.bind !== 'bind';
  const maps = mapsOf(mount, words, config);
  if (maps && recursive && words.mapped !== 'ridmap' && mountTable().some((one) => one.target.startsWith(`${path}/`)))
    throw new RuntimeError(
      `${target}: ids are mapped of all mounts below ${path}, or of a bind that takes none: ridmap, bind`,
    );
  return {
    type: 'bind',
    source: path,
    target,
    recursive,
    propagation: travels,
    ...Object.fromEntries(Object.entries(flags).filter(([, value]) => value !== false)),
    ...(clear.length ? { clear } : {}),
    ...(maps ? { idmap: mapped(program, maps) } : {}),
  };
}

interface Maps {
  uidMappings: readonly IdMapping[];
  gidMappings: readonly IdMapping[];
}

/** Those of the mount, or of the container where only `idmap` is said. */
function mapsOf(mount: MountConfig, { mapped: word }: MountWords, { linux = {} }: Config): Maps | undefined {
  const own = mount.uidMappings !== undefined || mount.gidMappings !== undefined;
  if (!own && !word) return undefined;
  const { uidMappings = [], gidMappings = [] } = own ? mount : linux;
  if (uidMappings.length === 0 || gidMappings.length === 0)
    throw new RuntimeError(
      `${mount.destination}: ids are mapped by uidMappings and gidMappings, of the mount or of linux`,
    );
  return { uidMappings, gidMappings };
}

function mapped(program: LaunchProgram, { uidMappings, gidMappings }: Maps): UserNamespace {
  const namespace = UserNamespace.create({ uidMap: uidMappings.map(range), gidMap: gidMappings.map(range) });
  program.defer(() => namespace.close());
  return namespace;
}

/** Any file system. */
function fresh(
  type: string,
  source: string | undefined,
  { flags, data, propagation: travels }: MountWords,
): MountSource {
  const parameters = { ...(source ? { source } : {}), ...data };
  return {
    open: (program) => {
      const mount = newMount(program, type, { parameters, attr: attributes(flags) });
      if (travels && travels !== 'private') {
        const bytes = mountAttr({ propagation: propagations[travels] });
        program.step('mount', 'mount_setattr', [mount, '', AT.EMPTY_PATH, bytes, bytes.length], {
          text: `mount_setattr(${type}, ${travels})`,
        });
      }
      return mount;
    },
  };
}

function memory(
  target: string,
  source: string | undefined,
  words: MountWords,
  { root, before }: Pick<Place, 'root' | 'before'>,
): MountSource {
  const { tmpcopyup, ...data } = words.data;
  if (!tmpcopyup) return fresh('tmpfs', source, words);
  const over = before.find(({ destination }) => `${target}/`.startsWith(`${destination.replace(/\/+$/, '')}/`));
  if (over)
    throw new RuntimeError(`${target}: tmpcopyup copies from the root, and not from the mount on ${over.destination}`);
  return {
    open: (program) => {
      const tree = copyUp(root, target, { ...words.flags, ...(source ? { source } : {}), parameters: data });
      program.defer(() => tree.close());
      return tree.open(program);
    },
  };
}

function without(data: MountWords['data'], keys: readonly string[]): MountWords['data'] {
  return Object.fromEntries(Object.entries(data).filter(([key]) => !keys.includes(key)));
}

function refuse(target: string, data: MountWords['data']): void {
  const [word] = Object.keys(data);
  if (word !== undefined) throw new RuntimeError(`${target}: no option of its mount: ${word}`);
}
