import { AT, type LaunchProgram, O, type Part } from '@iso/sys';
import { UsageError } from './options.js';

/** Namespaces that a container has of its own; a value of one that it has not is the host's. */
export interface OwnNamespaces {
  readonly network: boolean;
  readonly ipc: boolean;
  readonly uts: boolean;
}

/** Values of an ipc namespace, as runc knows them. */
const ofIpc = /^(kernel\/(msgmax|msgmnb|msgmni|sem|shmall|shmmax|shmmni|shm_rmid_forced)|fs\/mqueue\/\w+)$/;

/**
 * Sets sysctls of a container's own namespaces, docker's `--sysctl`. They are written in the host's proc, before the container has
 * a root: nothing of that can stand in the way.
 *
 * @param values - by name, with dots, or with slashes where a part has dots itself
 * @param own - its namespaces
 * @returns a part of its launch
 * @throws {@link UsageError} for what is no value of a namespace, or of one that it shares with others
 */
export function sysctls(values: Readonly<Record<string, string>>, own: OwnNamespaces): Part {
  const files = Object.entries(values).map(([name, value]) => ({ name, value, path: pathOf(name, own) }));
  return {
    confine(program) {
      for (const file of files) set(program, file);
    },
  };
}

function pathOf(name: string, own: OwnNamespaces): string {
  const [first = ''] = /[./]/.exec(name) ?? [];
  const path = first === '.' ? name.replaceAll('/', '\0').replaceAll('.', '/').replaceAll('\0', '.') : name;
  const parts = path.split('/');
  if (parts.length < 2 || parts.some((part) => part === '.' || part === '..' || !/^[\w.:@-]+$/.test(part)))
    throw new UsageError(`not a sysctl: ${JSON.stringify(name)}`);
  const shared = (what: string) =>
    new UsageError(`sysctl ${name} is another's where the container has no ${what} namespace of its own`);
  if (parts[0] === 'net') {
    if (!own.network) throw shared('network');
  } else if (ofIpc.test(path)) {
    if (!own.ipc) throw shared('ipc');
  } else if (path === 'kernel/domainname') {
    if (!own.uts) throw shared('uts');
  } else
    throw new UsageError(
      `sysctl ${name} is the host's: there are net.*, fs.mqueue.*, kernel.domainname, kernel.sem, kernel.msg*, kernel.shm*`,
    );
  return `/proc/sys/${path}`;
}

function set(program: LaunchProgram, { name, value, path }: { name: string; value: string; path: string }): void {
  const file = program.step('host', 'openat', [AT.FDCWD, path, O.WRONLY | O.CLOEXEC | O.NOFOLLOW, 0], {
    text: `open(${JSON.stringify(path)})`,
    hint: { ENOENT: 'this kernel has no such value', EACCES: 'it is read-only, or belongs to root of the host' },
  });
  program.step('host', 'write', [file, value, Buffer.byteLength(value)], {
    text: `write(${name}, ${JSON.stringify(value)})`,
    hint: { EINVAL: 'the value is none that it takes', EPERM: 'it belongs to root of the host' },
  });
}
