import { terminalSize } from '@iso/process';
import { FRAME } from '../supervise/frame.js';
import type { Link } from '../supervise/link.js';
import { DetachKeys } from './detach-keys.js';
import { ProxiedSignals } from './signals.js';
import { rawTerminal } from './terminal.js';

/** How this process's streams and the container's are joined. */
export interface AttachOptions {
  /** The container has a terminal. */
  tty: boolean;
  /** Our input is its input. */
  interactive: boolean;
  /** Our signals are its signals. */
  sigProxy: boolean;
  /** Bytes of the keys that let go of it. */
  detachKeys: Buffer;
  /** Where nobody reads what we write: the container is hung up, as by a terminal that is closed; else it is let go. */
  hangUp: boolean;
}

/** How long a container that is hung up has to end. */
const GRACE_MS = 1000;

/**
 * Joins this process's streams with those of a container, until it ends.
 *
 * @param link - with its supervisor
 * @param options - how
 * @returns its exit code; `detached` where it was let go, `lost` where its supervisor was killed
 * @throws StartError where it does not start
 */
export async function attachTo(link: Link, options: AttachOptions): Promise<number | 'detached' | 'lost'> {
  const { tty, interactive, sigProxy, detachKeys, hangUp } = options;
  let detach = () => {};
  const detached = new Promise<'detached'>((resolve) => {
    detach = () => resolve('detached');
  });
  const kill = (signal: NodeJS.Signals) => link.send(FRAME.signal, signal);
  using signals = sigProxy ? new ProxiedSignals(tty) : undefined;
  signals?.before.addEventListener('abort', () => kill('SIGKILL'));
  output(link, () => {
    if (!hangUp) return detach();
    kill('SIGHUP');
    setTimeout(() => kill('SIGKILL'), GRACE_MS).unref();
  });
  const undo = [
    ...(tty ? [resizing(link)] : []),
    ...(interactive ? [input(link, tty, new DetachKeys(detachKeys), () => detach())] : []),
  ];
  try {
    await link.started;
    signals?.goTo(kill);
    return (await Promise.race([link.ended, detached])) ?? 'lost';
  } finally {
    for (const action of undo) action();
    link.close();
  }
}

/** Not before there is something to write: who touches a standard stream makes it non-blocking. */
function output(link: Link, lost: () => void): void {
  const known = new Set<NodeJS.WriteStream>();
  const broken = new Set<NodeJS.WriteStream>();
  link.onOutput((name, chunk) => {
    const ours = process[name];
    if (!known.has(ours)) {
      ours.on('error', () => {
        if (broken.has(ours)) return;
        broken.add(ours);
        link.resume();
        lost();
      });
    }
    known.add(ours);
    if (broken.has(ours) || ours.write(chunk)) return;
    link.pause();
    ours.once('drain', () => link.resume());
  });
}

function resizing(link: Link): () => void {
  const resize = () => link.send(FRAME.resize, JSON.stringify(terminalSize()));
  process.stdout.on('resize', resize);
  return () => process.stdout.off('resize', resize);
}

function input(link: Link, tty: boolean, keys: DetachKeys, detach: () => void): () => void {
  const raw = tty ? rawTerminal() : undefined;
  // Where this process goes before it has said anything, its input has ended all the same.
  link.send(FRAME.input);
  const take = (chunk: Buffer) => {
    // Only who types can mean the keys.
    const { rest, detach: typed } = tty ? keys.take(chunk) : { rest: chunk, detach: false };
    if (rest.length > 0 && !link.send(FRAME.input, rest)) {
      process.stdin.pause();
      link.onceDrained(() => process.stdin.resume());
    }
    if (typed) detach();
  };
  process.stdin.on('data', take).once('end', () => link.send(FRAME.endOfInput));
  return () => {
    process.stdin.off('data', take);
    raw?.[Symbol.dispose]();
    process.stdin.destroy();
  };
}
