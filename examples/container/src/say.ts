const spoken = new WeakSet<NodeJS.WriteStream>();

/** Not before there is something to say: who touches a standard stream makes it non-blocking, for the container too. */
export function say(stream: NodeJS.WriteStream, text: string): void {
  // What reads it may have ended.
  if (!spoken.has(stream)) stream.on('error', () => {});
  spoken.add(stream);
  stream.write(text);
}

/** What is quoted may be of any length. */
const LONGEST = 1000;

/** One line of what is wrong. */
export function complain(message: string): void {
  const line = message.trim().replace(/\s*\n\s*/g, ' ');
  say(process.stderr, `iso: ${line.length > LONGEST ? `${line.slice(0, LONGEST)}…` : line}\n`);
}
