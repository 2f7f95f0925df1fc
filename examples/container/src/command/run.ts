import { terminalSize } from '@iso/process';
import { Command } from 'commander';
import { attachTo } from '../attach/attach.js';
import { parseDetachKeys } from '../attach/detach-keys.js';
import { explainContainer } from '../container.js';
import { foreground } from '../foreground.js';
import { healthPlan } from '../health/config.js';
import type { RunFlags } from '../recipe.js';
import { say } from '../say.js';
import { clean } from '../state/clean.js';
import { type HeldRecord, waitForEnd } from '../state/held.js';
import { home } from '../state/home.js';
import { launchSupervisor } from '../supervise/launch.js';
import { make } from '../supervise/make.js';
import { CidFile } from './cidfile.js';
import { attachOptions, checkLife } from './life-options.js';
import { runOptions } from './run-options.js';

/** `iso run`. */
export const run = attachOptions(runOptions(new Command('run')))
  .description('run a command in a new container')
  .option('-d, --detach', 'leave it to itself, and print its id')
  .option('--explain', 'print the launch program and exit')
  .action(async (root: string, command: string[], given: RunFlags & { cidfile?: string; explain?: boolean }) => {
    const { cidfile, explain, ...flags } = given;
    checkLife(flags);
    if (explain) return await explainRun({ root, command, flags: { ...flags, rm: true } });
    using file = cidfile === undefined ? undefined : new CidFile(cidfile);
    using record = await make(home(), { root, command, flags });
    const made = record.complete(true);
    file?.write(record.id);
    const { tty = false, interactive = false } = flags;
    if (isDirect(flags) && !healthPlan(made?.healthcheck))
      process.exitCode = await foreground(record, { tty, interactive });
    else if (flags.detach) await detached(record);
    else process.exitCode = await attached(record, flags);
  });

/**
 * Whether this process can run it itself: nothing of it is to be known later, and nobody can let go of it. Its program has our own
 * descriptors then.
 */
function isDirect(flags: RunFlags): boolean {
  const { rm, detach, detachKeys, logOpt, logDriver } = flags;
  return rm === true && !detach && detachKeys === undefined && logOpt === undefined && logDriver === undefined;
}

async function detached(record: HeldRecord): Promise<void> {
  using link = launchSupervisor(record, { attach: false });
  await link.started;
  say(process.stdout, `${record.id}\n`);
}

async function attached(record: HeldRecord, flags: RunFlags): Promise<number> {
  const { tty = false, interactive = false, sigProxy = true, detachKeys } = flags;
  using link = launchSupervisor(record, { attach: true, ...(tty ? { terminal: terminalSize() } : {}) });
  const exit = await attachTo(link, {
    tty,
    interactive,
    sigProxy,
    detachKeys: parseDetachKeys(detachKeys),
    hangUp: true,
  });
  return exit === 'detached' ? 0 : exit === 'lost' ? waitForEnd(record.home, record.id) : exit;
}

async function explainRun(given: Parameters<typeof make>[1]): Promise<void> {
  const { launchOptions } = await import('../supervise/once.js');
  {
    using record = await make(home(), given);
    await using options = await launchOptions(record);
    say(process.stdout, await explainContainer({ ...options.value, ...(given.flags.tty ? { stdio: 'pty' } : {}) }));
  }
  await clean(home());
}
