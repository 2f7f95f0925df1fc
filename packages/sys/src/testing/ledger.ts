import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { PR } from '../raw/flags.js';
import { attempt } from '../syscall.js';

/** What a process holds of the machine, as sorted lines. */
export type Ledger = readonly string[];

/**
 * Takes stock of what this process holds: descriptors, mounts, children with zombies, cgroups named after iso, interfaces, and the
 * state that no launch may change: dumpability, working directory, umask, the namespaces of each of its threads.
 *
 * @returns lines that are equal before and after whatever leaves nothing behind
 *
 * @example
 * ```ts
 * import { difference, ledger } from '@iso/sys/testing';
 * const before = ledger();
 * const added = difference(before, ledger());
 * if (added.length) throw new Error(added.join('\n'));
 * ```
 */
export function ledger(): Ledger {
  return [
    ...descriptors(),
    ...lines('/proc/self/mountinfo').map((line) => `mount ${line}`),
    ...children(),
    ...cgroups(),
    ...lines('/proc/self/net/dev')
      .slice(2)
      .map((line) => `interface ${line.split(':')[0]?.trim()}`),
    ...threads(),
    `dumpable ${attempt('prctl', PR.GET_DUMPABLE, 0, 0, 0, 0)}`,
    `cwd ${readlinkSync('/proc/self/cwd')}`,
    ...lines('/proc/self/status').filter((line) => /^(Umask|Uid|Gid|Groups|Cap|NoNewPrivs)/.test(line)),
  ].sort();
}

/**
 * What came and went between two ledgers.
 *
 * @param before - the first
 * @param after - the second
 * @returns lines with `+` or `-` in front; none where nothing changed
 */
export function difference(before: Ledger, after: Ledger): string[] {
  const count = (list: Ledger) =>
    list.reduce((map, line) => map.set(line, (map.get(line) ?? 0) + 1), new Map<string, number>());
  const [old, now] = [count(before), count(after)];
  return [
    ...[...now].filter(([line, times]) => times > (old.get(line) ?? 0)).map(([line]) => `+ ${line}`),
    ...[...old].filter(([line, times]) => times > (now.get(line) ?? 0)).map(([line]) => `- ${line}`),
  ];
}

function descriptors(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      // The listing itself; and Node's own, which come and go with its timers and pools.
      return /^\/proc\/\d+\/fd$|anon_inode:\[(eventpoll|eventfd|timerfd|io_uring)\]/.test(target)
        ? []
        : [`fd ${fd} ${target}`];
    } catch {
      return [];
    }
  });
}

function children(): string[] {
  return readdirSync('/proc/self/task').flatMap((thread) => {
    const pids = lines(`/proc/self/task/${thread}/children`).join(' ').split(' ');
    return pids
      .filter((pid) => pid !== '')
      .map((pid) => `child ${pid} ${lines(`/proc/${pid}/stat`)[0]?.split(') ')[1]?.[0] ?? 'gone'}`);
  });
}

/** Threads share what they are in; a thread that is elsewhere shows as a line of its own. */
function threads(): string[] {
  const seen = new Set<string>();
  for (const thread of readdirSync('/proc/self/task')) {
    for (const name of ['mnt', 'net', 'uts', 'ipc', 'user', 'pid', 'cgroup', 'time']) {
      const path = `/proc/self/task/${thread}/ns/${name}`;
      if (existsSync(path)) seen.add(`thread namespace ${readlinkSync(path)}`);
    }
  }
  return [...seen];
}

function cgroups(): string[] {
  const roots = new Set(
    lines('/proc/self/mountinfo')
      .filter((line) => / - cgroup2? /.test(line))
      .map((line) => line.split(' ')[4] as string),
  );
  return [...roots].flatMap((root) =>
    readdirSync(root)
      .filter((name) => name.startsWith('iso'))
      .flatMap((name) =>
        readdirSync(`${root}/${name}`, { withFileTypes: true })
          .filter((entry) => entry.isDirectory())
          .map((entry) => `cgroup ${root}/${name}/${entry.name}`),
      ),
  );
}

function lines(path: string): string[] {
  try {
    return readFileSync(path, 'utf8')
      .split('\n')
      .filter((line) => line !== '');
  } catch {
    return [];
  }
}
