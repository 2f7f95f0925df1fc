import { isatty } from 'node:tty';
import { SingleBar } from 'cli-progress';

/** Shows how far long work is: a bar on a terminal, a line for each layer elsewhere. */
export interface Progress {
  /** Told of a layer, see `LayerProgress` and `ImageProgress` of @iso/unionfs. */
  layer(at: { digest: string; bytes: number; size: number }): void;
  close(): void;
}

/** Work that is done before would only flicker; a log can wait longer. */
const PATIENCE_MS = { bar: 300, line: 3000 };

/**
 * @param what - is being done
 * @returns what shows it on standard error
 */
export function progress(what: string): Progress {
  const start = performance.now();
  const short = (digest: string) => digest.replace(/^sha256:/, '').slice(0, 12);
  // Not asked of the stream: who touches that makes it non-blocking, for the container too.
  if (!isatty(2)) {
    let last = '';
    return {
      layer({ digest, size }) {
        if (digest === last || performance.now() - start < PATIENCE_MS.line) return;
        last = digest;
        process.stderr.write(`${what} ${short(digest)} (${size} bytes)\n`);
      },
      close() {},
    };
  }
  let bar: SingleBar | undefined;
  let last = '';
  return {
    layer({ digest, bytes, size }) {
      if (performance.now() - start < PATIENCE_MS.bar) return;
      if (digest !== last) {
        bar?.stop();
        bar = new SingleBar({
          format: `${what} {digest} {bar} {percentage}%`,
          clearOnComplete: true,
          hideCursor: true,
        });
        bar.start(size, bytes, { digest: short(digest) });
        last = digest;
      } else bar?.update(bytes);
    },
    close() {
      bar?.stop();
    },
  };
}
