import { Command } from 'commander';
import { readProcess } from '../config/read.js';
import type { ProcessConfig } from '../config/spec.js';
import { attachHere } from '../container/foreground.js';
import { RuntimeError } from '../error.js';
import { descriptors, exitCode, writePid } from './life.js';
import { openContainer } from './options.js';

interface ExecFlags {
  process?: string;
  pidFile?: string;
  detach?: boolean;
  preserveFds: number;
  tty?: boolean;
  consoleSocket?: string;
  cwd?: string;
  env?: string[];
  user?: string;
  cap?: string[];
}

const collect = (value: string, all: string[] = []) => [...all, value];

/** `iso-oci exec`. */
export const exec = new Command('exec')
  .description('run another process in a running container')
  .argument('<id>')
  .argument('[command...]')
  .passThroughOptions()
  .option('-p, --process <path>', 'JSON that describes it')
  .option('--pid-file <path>', 'file for its number')
  .option('-d, --detach', 'leave it running')
  .option('--preserve-fds <count>', 'descriptors from 3 on that it keeps', descriptors, 0)
  .option('-t, --tty', 'give it a terminal')
  .option('--console-socket <path>', 'socket that its terminal is sent to')
  .option('--cwd <path>', 'its working directory')
  .option('-e, --env <variable>', 'NAME=VALUE', collect)
  .option('-u, --user <user>', 'UID[:GID]')
  .option('-c, --cap <name>', 'a capability more', collect)
  .action(async (id: string, words: string[], flags: ExecFlags, command: Command) => {
    const container = openContainer(command.optsWithGlobals(), id);
    const like = container.saved().config.process as ProcessConfig;
    const process_ = flags.process ? within(like, await readProcess(flags.process)) : described(like, words, flags);
    const here = { terminalHere: !flags.detach };
    const child = await container.exec(
      { ...process_, ...(flags.tty ? { terminal: true } : {}) },
      { ...flags, ...here },
    );
    try {
      writePid(flags, child.pid);
    } catch (error) {
      await child[Symbol.asyncDispose]();
      throw error;
    }
    if (flags.detach) return void child.unref();
    const shown = attachHere(child);
    process.exitCode = exitCode(await child.exited);
    await shown;
  });

/** What is not said of privileges is as the container's first process has it, and never as the caller. */
function within(like: ProcessConfig, added: ProcessConfig): ProcessConfig {
  const { capabilities = like.capabilities, noNewPrivileges = like.noNewPrivileges } = added;
  return {
    ...added,
    ...(capabilities ? { capabilities } : {}),
    ...(noNewPrivileges === undefined ? {} : { noNewPrivileges }),
  };
}

/** An empty word is nobody's id, above all not root's. */
function idsOf(user: string): [uid: number, gid?: number] {
  const [, uid, gid] = /^(\d{1,10})(?::(\d{1,10}))?$/.exec(user) ?? [];
  if (uid === undefined) throw new RuntimeError(`not a user: ${JSON.stringify(user)}, it is UID[:GID]`);
  return gid === undefined ? [Number(uid)] : [Number(uid), Number(gid)];
}

/** As the container's first process, but for what was asked for. */
function described(like: ProcessConfig, args: string[], { cwd, env = [], user, cap = [] }: ExecFlags): ProcessConfig {
  if (args.length === 0) throw new RuntimeError('neither --process nor a command');
  const ids = user === undefined ? undefined : idsOf(user);
  const sets = like.capabilities ?? {};
  const more = (names: readonly string[] = []) => [...names, ...cap];
  return {
    ...like,
    terminal: false,
    args,
    cwd: cwd ?? like.cwd,
    env: [...(like.env ?? []), ...env],
    ...(ids ? { user: { ...like.user, uid: ids[0], gid: ids[1] ?? like.user?.gid ?? 0 } } : {}),
    capabilities: {
      ...sets,
      bounding: more(sets.bounding),
      permitted: more(sets.permitted),
      effective: more(sets.effective),
    },
  };
}
