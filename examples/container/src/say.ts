import { printable } from './printable.js';

const spoken = new WeakSet<NodeJS.WriteStream>();

/**
 * What this command has to say, names and labels of others among it: on a terminal their escapes are seen and not obeyed.
 * Not before there is something to say: who touches a standard stream makes it non-blocking, for the container too.
 */
export function say(stream: NodeJS.WriteStream, text: string): void {
  pass(stream, stream.isTTY ? printable(text) : text);
}

/** Output of a program's, as it is. */
export function pass(stream: NodeJS.WriteStream, text: string): void {
  // What reads it may have ended.
  if (!spoken.has(stream)) stream.on('error', () => {});
  spoken.add(stream);
  stream.write(text);
}

/** What is quoted may be of any length. */
const LONGEST = 1000;

/** One line of what is wrong. */
export function complain(message: string): void {
  const line = printable(message.trim().replace(/\s*\n\s*/g, ' '), '\t');
  pass(process.stderr, `iso: ${line.length > LONGEST ? `${line.slice(0, LONGEST)}…` : line}\n`);
}
