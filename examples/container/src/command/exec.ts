import { once } from 'node:events';
import { Command } from 'commander';
import { openCgroup, openProcess } from '../control.js';
import { execIn } from '../exec/exec.js';
import { exitCode } from '../exitcode.js';
import { inForeground } from '../foreground.js';
import { UsageError } from '../options.js';
import { home } from '../state/home.js';
import { environmentOf, environmentOptions, type ProcessFlags } from './process-options.js';

interface ExecFlags extends Pick<ProcessFlags, 'env' | 'envFile'> {
  interactive?: boolean;
  tty?: boolean;
  detach?: boolean;
  workdir?: string;
  user?: string;
  privileged?: boolean;
}

/** `iso exec`. */
export const exec = environmentOptions(new Command('exec'))
  .description('run a command in a running container')
  .argument('<container>', 'name or id')
  .argument('<command>', 'program, looked up inside')
  .argument('[arg...]', 'its arguments')
  .passThroughOptions()
  .option('-i, --interactive', 'pass standard input on')
  .option('-t, --tty', 'give it a terminal')
  .option('-d, --detach', 'leave it alone: it goes on when this command has ended')
  .option('-w, --workdir <path>', 'working directory inside, default the container’s')
  .option('-u, --user <user>', 'NAME|UID[:GROUP|GID], default the container’s')
  .option('--privileged', 'all capabilities')
  .action(async (word: string, file: string, args: string[], flags: ExecFlags) => {
    const { workdir: cwd, user, privileged, detach, tty = false, interactive = false } = flags;
    if (detach && (tty || interactive)) throw new UsageError('-d goes with neither -i nor -t: nobody would be there');
    const { container, pidfd } = openProcess(home(), word);
    using _held = pidfd;
    const { pid, name, status, confinement } = container;
    if (status === 'paused') throw new UsageError(`container ${name} is paused, unpause it first`);
    if (!confinement) throw new UsageError(`container ${name} was started by another version of iso`);
    using cgroup = container.cgroup === undefined ? undefined : await openCgroup(container);
    const target = { pid, pidfd, cgroup, confinement };
    const options = {
      env: environmentOf(flags),
      ...(cwd === undefined ? {} : { cwd }),
      ...(user === undefined ? {} : { user }),
      ...(privileged ? { privileged } : {}),
    };
    const start = (more: object) => execIn(target, [file, ...args], { ...options, ...more });
    if (detach) {
      const child = await start({ detached: true, stdio: 'ignore' });
      child.unref();
    } else
      process.exitCode = await inForeground({ tty, interactive }, async (io, running) => {
        const child = await start(io);
        const closed = once(child, 'close');
        running(child);
        await closed;
        return exitCode(await child.exited);
      });
  });
