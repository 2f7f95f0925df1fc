import { terminalSize } from '@iso/process';
import { Command } from 'commander';
import { attachTo } from '../attach/attach.js';
import { parseDetachKeys } from '../attach/detach-keys.js';
import { UsageError } from '../options.js';
import { waitForEnd } from '../state/held.js';
import { home } from '../state/home.js';
import { containerDirectory, findContainer, updateContainer } from '../state/record.js';
import { FRAME } from '../supervise/frame.js';
import { Link } from '../supervise/link.js';
import { attachOptions } from './life-options.js';

interface AttachFlags {
  stdin: boolean;
  detachKeys?: string;
  sigProxy: boolean;
}

/** `iso attach`. */
export const attach = attachOptions(new Command('attach'))
  .description('join the standard streams of a container that runs')
  .argument('<container>', 'name or id')
  .option('--no-stdin', 'not its input')
  .action(async (word: string, flags: AttachFlags) => {
    const { id, status, flags: made } = findContainer(home(), word);
    if (status === 'paused') throw new UsageError(`container ${word} is paused: unpause it first`);
    const link = await Link.connect(containerDirectory(home(), id));
    if (!link)
      throw new UsageError(`container ${word} has the streams of the command that runs it: iso run --rm without -d`);
    const { tty = false, interactive = false, detachKeys } = made;
    updateContainer(home(), id, {}, 'attach');
    if (tty) link.send(FRAME.resize, JSON.stringify(terminalSize()));
    const exit = await attachTo(link, {
      tty,
      interactive: interactive && flags.stdin,
      sigProxy: flags.sigProxy,
      detachKeys: parseDetachKeys(flags.detachKeys ?? detachKeys),
      hangUp: false,
    });
    if (exit === 'detached') updateContainer(home(), id, {}, 'detach');
    process.exitCode = exit === 'detached' ? 0 : exit === 'lost' ? waitForEnd(home(), id) : exit;
  });
