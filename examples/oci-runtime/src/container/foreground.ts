import { attach, type Child } from '@iso/process';

/**
 * Connects the terminal that this process has with that of a process in a container, if it has one that came here.
 *
 * @param child - the process
 * @returns ends when all that was written there has been passed on, and this process's terminal is as it was
 */
export async function attachHere(child: Child): Promise<void> {
  const stream = child.terminal?.stream;
  if (!stream) return;
  attach(child);
  await new Promise((resolve) => stream.once('close', resolve));
  process.stdin.unref?.();
}
