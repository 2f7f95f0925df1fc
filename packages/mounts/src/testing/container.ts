import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CLONE, Fd, type Launched, LaunchProgram, launch, type Part, park, reap, StringArray } from '@iso/sys';

const root = process.getuid?.() === 0;

/** How a shell is started. */
export interface StartOptions {
  /** `CLONE.NEW*`, default a pid namespace. */
  flags?: number;
  /** In a user namespace, as its root; a plain user cannot do without. */
  user?: boolean;
  /** Adds steps, for example ones that drop privileges. */
  more?: (program: LaunchProgram) => void;
}

/** A user namespace whose root is the caller; of root every id is itself. */
export function userNamespace(): Fd {
  const parked = park(CLONE.NEWUSER);
  try {
    // Root of a user namespace may have one id only.
    const many = root && /^ *0 +\d+ +\d{5,}$/m.test(readFileSync('/proc/self/uid_map', 'utf8'));
    const maps = (id: number | undefined) => (many ? '0 0 65536' : `0 ${id} 1`);
    if (!many) writeFileSync(`/proc/${parked.pid}/setgroups`, 'deny');
    writeFileSync(`/proc/${parked.pid}/uid_map`, maps(process.geteuid?.()));
    writeFileSync(`/proc/${parked.pid}/gid_map`, maps(process.getegid?.()));
    return Fd.open(`/proc/${parked.pid}/ns/user`);
  } finally {
    parked.end();
  }
}

/** A launch of a shell on a root of its own, by nothing but the launcher; what it prints goes to a file. */
async function prepare(out: string, part: Part, command: string[], options: StartOptions): Promise<LaunchProgram> {
  writeFileSync(out, '');
  const program = new LaunchProgram();
  program.unshare(options.flags ?? CLONE.NEWPID);
  try {
    if (options.user ?? !root) {
      const user = userNamespace();
      program.defer(() => user.close());
      program.join(user, CLONE.NEWUSER, { exposed: false });
      program.step('user', 'setresgid', [0, 0, 0]);
      program.step('user', 'setresuid', [0, 0, 0]);
    }
    await part.confine(program);
  } catch (error) {
    program.finish('failed');
    throw error;
  }
  program.step('birth', 'dup3', [program.step('birth', 'openat', [-100, out, 1, 0]), 1, 0]);
  program.step('birth', 'dup3', [1, 2, 0]);
  options.more?.(program);
  program.closeFrom(3);
  const [file] = command;
  program.step('exec', 'execve', [
    file as string,
    new StringArray(command),
    new StringArray(['PATH=/usr/bin:/bin:/usr/sbin:/sbin']),
  ]);
  return program;
}

/** Runs a shell and returns what it printed; throws where it does not end with 0. */
export async function inside(folder: string, part: Part, script: string, options: StartOptions = {}): Promise<string> {
  const out = join(folder, 'out');
  const { pidfd } = launch(await prepare(out, part, ['/bin/sh', '-c', script], options));
  const status = reap(pidfd, { block: true });
  pidfd.close();
  const text = readFileSync(out, 'utf8');
  if (status?.code !== 0) throw new Error(`exit ${status?.code} signal ${status?.signal}: ${text}`);
  return text;
}

/** Starts a program that goes on; the caller ends it. */
export async function start(
  folder: string,
  part: Part,
  command: string[],
  options: StartOptions = {},
): Promise<Launched> {
  return launch(await prepare(join(folder, 'out'), part, command, options));
}

/** A small root: the host's programs, and whatever else a test puts there. */
export function smallRoot(folder: string): string {
  const path = join(folder, 'root');
  for (const name of ['usr', 'etc', 'tmp']) mkdirSync(join(path, name), { recursive: true });
  for (const name of ['bin', 'lib', 'lib64', 'sbin']) symlinkSync(`usr/${name}`, join(path, name));
  return path;
}

/** The host's programs, read-only. */
export const programs = { type: 'bind', source: '/usr', target: '/usr', readonly: true, recursive: true } as const;
