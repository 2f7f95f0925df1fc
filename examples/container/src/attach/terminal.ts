/**
 * Puts this process's terminal into raw mode, until the end of this process at the latest.
 *
 * @returns to be disposed to have it as before
 */
export function rawTerminal(): Disposable {
  if (!process.stdin.isTTY || process.stdin.isRaw) return { [Symbol.dispose]: () => {} };
  const cooked = () => process.stdin.setRawMode(false);
  process.stdin.setRawMode(true);
  process.once('exit', cooked);
  return {
    [Symbol.dispose]() {
      cooked();
      process.off('exit', cooked);
    },
  };
}
