import { existsSync, readFileSync, statSync } from 'node:fs';
import { arch, release } from 'node:os';
import { capabilitiesOf, lastCapability, namesOf } from '@iso/capabilities';
import { Namespace, type NamespaceType, subordinateIds, types, UserNamespace } from '@iso/namespaces';
import { features } from '@iso/sys';
import { type Finding, Missing, trying } from './finding.js';

/**
 * The session, the kernel's interfaces, and each type of namespace.
 *
 * @returns what was found
 */
export function examineKernel(): Finding[] {
  return [...session(), ...interfaces(), ...namespaces()];
}

function session(): Finding[] {
  const of = trying('session');
  return [
    of('kernel', () => `Linux ${release()} on ${arch()}, Node ${process.versions.node}`),
    of('privilege', () => {
      const { effective } = capabilitiesOf('self');
      const all = lastCapability() + 1;
      const user = process.getuid?.() === 0 ? 'root' : `user ${process.getuid?.()}`;
      return `${user} with ${namesOf(effective).length} of ${all} capabilities`;
    }),
    of('user namespace', () => {
      const maps = readFileSync('/proc/self/uid_map', 'utf8').trim();
      return /^0\s+0\s+4294967295$/.test(maps) ? 'the first one' : `a nested one: ${maps.replace(/\s+/g, ' ')}`;
    }),
    of('seccomp', () => {
      const mode = /^Seccomp:\s*(\d)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
      return mode === '2' ? 'this session is filtered itself' : 'this session is not filtered';
    }),
    of('ranges of ids', () => {
      const [uids, gids] = [subordinateIds('/etc/subuid'), subordinateIds('/etc/subgid')];
      if (process.getuid?.() === 0) return 'root maps what it likes';
      if (!uids.length || !gids.length)
        throw new Missing('this user has no range in /etc/subuid and /etc/subgid: only its own id is mapped', ROOT_IDS);
      if (!installed('newuidmap')) throw new Missing('newuidmap is not installed', ROOT_IDS);
      return `${uids.reduce((sum, { count }) => sum + count, 0)} ids`;
    }),
  ];
}

const ROOT_IDS =
  'root: apt-get install uidmap, and usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER';

function interfaces(): Finding[] {
  const of = trying('kernel interfaces');
  // Namespaces are tried below, as this user has them.
  const { userNamespaces: _user, timeNamespaces: _time, ...others } = features;
  return Object.values(others).map((feature) => of(feature.name, () => feature.require()));
}

function namespaces(): Finding[] {
  const of = trying('namespaces');
  return (Object.keys(types) as NamespaceType[]).map((type) =>
    of(type, () => {
      if (type === 'user') {
        UserNamespace.create('root').close();
        return `${limit('user')} at the most`;
      }
      // One of pids lives by its first process; a start of a container shows whether that works.
      if (type === 'pid') return `${limit('pid')} at the most`;
      if (process.getuid?.() === 0) Namespace.create(type).close();
      else {
        const owner = UserNamespace.create('root');
        try {
          Namespace.create(type, { owner }).close();
        } finally {
          owner.close();
        }
      }
      return `${limit(type)} at the most`;
    }),
  );
}

function limit(type: string): string {
  const short = { mount: 'mnt' }[type] ?? type;
  return readFileSync(`/proc/sys/user/max_${short}_namespaces`, 'utf8').trim();
}

/**
 * Whether a program is there to be started.
 *
 * @param name - of the program
 * @returns whether a directory of PATH, or one where administrators' programs are, has it
 */
export function installed(name: string): boolean {
  const directories = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin', '/usr/bin', '/bin'];
  return directories.some((directory) => {
    const path = `${directory}/${name}`;
    return directory !== '' && existsSync(path) && (statSync(path).mode & 0o111) !== 0;
  });
}
