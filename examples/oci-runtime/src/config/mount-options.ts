import type { MountFlags } from '@iso/mounts';

/** How mounts travel between a mount and its peers. */
type PropagationWord = 'private' | 'slave' | 'shared' | 'unbindable';

/** What the options of a mount say. */
export interface MountWords {
  /** What it is to have. */
  flags: MountFlags;
  /** What it is not to have, wherever it comes from. */
  clear: Exclude<keyof MountFlags, 'atime'>[];
  propagation?: PropagationWord;
  bind?: 'bind' | 'rbind';
  /** Whether its ids are mapped: of it alone, or of those below too. */
  mapped?: 'idmap' | 'ridmap';
  /** What belongs to the file system. */
  data: Record<string, string | true>;
}

const setting: Readonly<Record<string, MountWords['clear'][number]>> = {
  ro: 'readonly',
  nosuid: 'nosuid',
  nodev: 'nodev',
  noexec: 'noexec',
  nosymfollow: 'nosymfollow',
  nodiratime: 'nodiratime',
};
const clearing: Readonly<Record<string, MountWords['clear'][number]>> = {
  rw: 'readonly',
  suid: 'nosuid',
  dev: 'nodev',
  exec: 'noexec',
  symfollow: 'nosymfollow',
  diratime: 'nodiratime',
};
const atimes = ['relatime', 'noatime', 'strictatime'] as const;
/** What a mount has without them. */
const defaults = ['atime', 'norelatime', 'nostrictatime'];
const propagations = ['private', 'slave', 'shared', 'unbindable'];
/** What every file system does without being told. */
const idle = ['defaults', 'async', 'loud', 'nomand', 'nolazytime', 'noiversion'];

const recursive = (words: readonly string[]) => words.flatMap((word) => [word, `r${word}`]);

/** Words of mounts that are known here; others belong to the file system. */
export const mountOptions: readonly string[] = [
  ...recursive([...Object.keys(setting), ...Object.keys(clearing), ...atimes, ...defaults, ...propagations]),
  ...['bind', 'rbind', 'idmap', 'ridmap', 'tmpcopyup'],
  ...idle,
];

/**
 * Reads the options of a mount. Of a recursive bind they are for the mounts below it too, said so or not.
 *
 * @param options - as of config.json
 * @returns what they say, the last of those that exclude each other
 */
export function readOptions(options: readonly string[]): MountWords {
  const words: MountWords = { flags: {}, clear: [], data: {} };
  for (const option of options) {
    const word = mountOptions.includes(option) && option.startsWith('r') ? plainOf(option) : option;
    const [set, clear] = [wordOf(setting, word), wordOf(clearing, word)];
    if (set) {
      words.flags[set] = true;
      words.clear = words.clear.filter((name) => name !== set);
    } else if (clear) {
      words.flags[clear] = false;
      words.clear = [...new Set([...words.clear, clear])];
    } else if ((atimes as readonly string[]).includes(word)) words.flags.atime = word as (typeof atimes)[number];
    else if (propagations.includes(word)) words.propagation = word as PropagationWord;
    else if (option === 'bind' || option === 'rbind') words.bind = option;
    else if (option === 'idmap' || option === 'ridmap') words.mapped = option;
    else if (!idle.includes(word) && !defaults.includes(word)) {
      const [key = '', value] = option.split(/=(.*)/s);
      words.data[key] = value ?? true;
    }
  }
  return words;
}

/** Without the `r` of a recursive one; `ro`, `rw` and `relatime` have it for themselves. */
function plainOf(option: string): string {
  const plain = option.slice(1);
  return mountOptions.includes(plain) && plain !== option ? plain : option;
}

function wordOf<Value>(values: Readonly<Record<string, Value>>, key: string): Value | undefined {
  return Object.hasOwn(values, key) ? values[key] : undefined;
}
