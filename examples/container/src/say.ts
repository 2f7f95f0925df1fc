const spoken = new WeakSet<NodeJS.WriteStream>();

/** Not before there is something to say: who touches a standard stream makes it non-blocking, for the container too. */
export function say(stream: NodeJS.WriteStream, text: string): void {
  // What reads it may have ended.
  if (!spoken.has(stream)) stream.on('error', () => {});
  spoken.add(stream);
  stream.write(text);
}

/** One line of what is wrong. */
export function complain(message: string): void {
  say(process.stderr, `iso: ${message.trim().replace(/\s*\n\s*/g, ' ')}\n`);
}
