import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { PR } from '../raw/flags.js';
import { attempt } from '../syscall.js';

/** What a process holds of the machine, as sorted lines. */
export type Ledger = readonly string[];

/**
 * Takes stock of what this process holds, and of what launches leave behind on a machine:
 *
 * - its descriptors, and with them the namespaces, sockets and mounts that it holds open
 * - mounts, and so namespaces pinned to paths; names in /run/netns
 * - its descendants, and zombies among them
 * - network interfaces, loop devices with a file
 * - cgroups, shared memory and message queues whose names begin with iso; its user's System V objects
 * - what no launch may change: dumpability, working directory, umask, ids, capabilities, the namespaces of each thread
 *
 * With `ISO_LEDGER=own` in the environment, what is one for the whole machine is left out (names, loop devices, cgroups, shared memory,
 * queues): for tests that run beside others.
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
    ...descendants('self'),
    ...lines('/proc/self/net/dev')
      .slice(2)
      .map((line) => `interface ${line.split(':')[0]?.trim()}`),
    ...(process.env.ISO_LEDGER === 'own' ? [] : shared()),
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

/** What is one for the whole machine, and not to be told from what a program beside this one has. */
function shared(): string[] {
  return [
    ...names('/run/netns').map((name) => `network namespace ${name}`),
    ...loops(),
    ...cgroups(),
    ...['/dev/shm', '/dev/mqueue'].flatMap((folder) => names(folder).map((name) => `file ${folder}/${name}`)),
    ...systemV(),
  ];
}

function descriptors(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      // The listing itself; and Node's own and the watchers', which come and go with its timers and pools.
      return /^\/proc\/\d+\/fd$|anon_inode:\[(eventpoll|eventfd|timerfd|io_uring)\]/.test(target)
        ? []
        : [`fd ${fd} ${target}`];
    } catch {
      return [];
    }
  });
}

/** Children and theirs; one that nobody has reaped is a zombie. Whether the others run or sleep just now is no matter. */
function descendants(pid: string): string[] {
  return entries(`/proc/${pid}/task`)
    .flatMap((thread) => lines(`/proc/${pid}/task/${thread}/children`))
    .flatMap((line) => line.trim().split(' '))
    .flatMap((child) => {
      const [stat] = lines(`/proc/${child}/stat`);
      if (!stat) return [];
      const dead = /\) [ZX] /.test(stat);
      // Not its name, which changes when it executes.
      return [`${dead ? 'zombie' : 'process'} ${child}`, ...descendants(child)];
    });
}

function loops(): string[] {
  return entries('/sys/block')
    .filter((name) => name.startsWith('loop'))
    .flatMap((name) => lines(`/sys/block/${name}/loop/backing_file`).map((file) => `loop device ${name} ${file}`));
}

/** Those of this user: a machine that runs other things has others of others. */
function systemV(): string[] {
  return Object.entries({ shm: 'shmid', sem: 'semid', msg: 'msqid' }).flatMap(([kind, column]) => {
    const [head = [], ...rows] = lines(`/proc/sysvipc/${kind}`).map((line) => line.trim().split(/\s+/));
    const [id, uid] = [column, 'cuid'].map((name) => head.indexOf(name));
    return rows
      .filter((row) => row[uid as number] === String(process.geteuid?.()))
      .map((row) => `System V ${kind} ${row[id as number]}`);
  });
}

/** Threads share what they are in; a thread that is elsewhere shows as a line of its own. */
function threads(): string[] {
  const seen = new Set<string>();
  for (const thread of entries('/proc/self/task')) {
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
  const own = new Set([String(process.pid), ...descendants('self').map((line) => line.split(' ')[1] as string)]);
  return [...roots].flatMap((root) => names(root).flatMap((name) => cgroupsBelow(`${root}/${name}`, own)));
}

function cgroupsBelow(path: string, own: ReadonlySet<string>): string[] {
  // Of a process that lives and is not below this one: another program that runs beside it.
  const [, pid, start] = /@(\d+)-(\d+)-\d+$/.exec(path) ?? [];
  if (pid && !own.has(pid) && lines(`/proc/${pid}/stat`)[0]?.split(') ').at(-1)?.split(' ')[19] === start) return [];
  const below = entries(path, true).flatMap((name) => cgroupsBelow(`${path}/${name}`, own));
  // The parent of all of iso's own is made once and stays.
  return path.endsWith('/iso') ? below : [`cgroup ${path}`, ...below];
}

/** Names that are ours. */
function names(folder: string): string[] {
  return entries(folder).filter((name) => name.startsWith('iso'));
}

function entries(folder: string, onlyFolders = false): string[] {
  try {
    const found = readdirSync(folder, { withFileTypes: true });
    return found.filter((entry) => !onlyFolders || entry.isDirectory()).map(({ name }) => name);
  } catch {
    return [];
  }
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
