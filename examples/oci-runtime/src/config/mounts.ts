import { resolve } from 'node:path';
import { attributes, type MountFlags, type MountSource, type MountSpec, newMount, rootfs } from '@iso/mounts';
import type { Part } from '@iso/sys';
import { RuntimeError } from '../error.js';
import { deviceMounts } from './devices.js';
import type { Bundle } from './read.js';
import type { MountConfig } from './spec.js';

/**
 * The root of a configuration, with everything that is mounted in it.
 *
 * @param bundle - of the container
 * @returns a part of the launch
 * @throws {@link RuntimeError} for mounts that cannot be made as they are meant
 */
export function rootOf({ directory, config }: Bundle): Part {
  const { root, mounts = [], linux = {}, process: first } = config;
  const specs = mounts.map((mount) => specOf(mount, directory));
  const cwd = first?.cwd ?? '/';
  return rootfs({
    directory: resolve(directory, root?.path as string),
    readonly: root?.readonly ?? false,
    mounts: [
      ...specs,
      ...deviceMounts(config),
      // As other runtimes do for an image whose working directory none of its layers has.
      ...(cwd === '/' || root?.readonly ? [] : [{ type: 'directory' as const, target: cwd }]),
    ],
    maskedPaths: linux.maskedPaths ?? [],
    readonlyPaths: linux.readonlyPaths ?? [],
  });
}

const flagWords: Readonly<Record<string, MountFlags>> = {
  ro: { readonly: true },
  rro: { readonly: true },
  rw: { readonly: false },
  nosuid: { nosuid: true },
  suid: { nosuid: false },
  nodev: { nodev: true },
  dev: { nodev: false },
  noexec: { noexec: true },
  exec: { noexec: false },
  nosymfollow: { nosymfollow: true },
  nodiratime: { nodiratime: true },
  noatime: { atime: 'noatime' },
  relatime: { atime: 'relatime' },
  strictatime: { atime: 'strictatime' },
};
const propagationWords: Readonly<Record<string, 'private' | 'slave' | 'shared'>> = {
  private: 'private',
  rprivate: 'private',
  slave: 'slave',
  rslave: 'slave',
  shared: 'shared',
  rshared: 'shared',
};
const defaults = ['defaults', 'sync', 'async', 'diratime', 'atime'];

/** Words of mounts that are known here; others belong to the file system. */
export const mountOptions: readonly string[] = [
  ...Object.keys(flagWords),
  ...Object.keys(propagationWords),
  ...defaults,
  'bind',
  'rbind',
];

/** What the words of a mount say. */
interface Words {
  flags: MountFlags;
  propagation?: 'private' | 'slave' | 'shared';
  bind?: 'bind' | 'rbind';
  /** What belongs to the file system. */
  data: Record<string, string | true>;
}

function read(options: readonly string[]): Words {
  const words: Words = { flags: {}, data: {} };
  for (const option of options) {
    const [key = '', value] = option.split(/=(.*)/s);
    if (flagWords[option]) Object.assign(words.flags, flagWords[option]);
    else if (propagationWords[option]) words.propagation = propagationWords[option];
    else if (option === 'bind' || option === 'rbind') words.bind = option;
    else if (!defaults.includes(option)) words.data[key] = value ?? true;
  }
  return words;
}

function specOf({ destination: target, type = 'none', source, options = [] }: MountConfig, bundle: string): MountSpec {
  const words = read(options);
  const { flags, data } = words;
  if (type === 'bind' || words.bind) {
    if (!source) throw new RuntimeError(`${target}: a bind without a source`);
    refuse(target, data);
    const { propagation = 'private' } = words;
    return {
      type: 'bind',
      source: resolve(bundle, source),
      target,
      recursive: words.bind !== 'bind',
      propagation,
      ...flags,
    };
  }
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
      // With the nodes that every container has.
      return target === '/dev'
        ? { type: 'dev', target }
        : { type: 'mount', source: fresh(type, source, words), target };
    default:
      return { type: 'mount', source: fresh(type, source, words), target };
  }
}

/** Any file system. */
function fresh(type: string, source: string | undefined, { flags, data }: Words): MountSource {
  const { tmpcopyup, ...rest } = data;
  if (tmpcopyup) throw new RuntimeError('tmpcopyup cannot be applied');
  const parameters = { ...(source ? { source } : {}), ...rest };
  return { open: (program) => newMount(program, type, { parameters, attr: attributes(flags) }) };
}

function without(data: Words['data'], keys: readonly string[]): Words['data'] {
  return Object.fromEntries(Object.entries(data).filter(([key]) => !keys.includes(key)));
}

function refuse(target: string, data: Words['data']): void {
  const [word] = Object.keys(data);
  if (word !== undefined) throw new RuntimeError(`${target}: no option of its mount: ${word}`);
}
