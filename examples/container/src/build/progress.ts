import type { BuildEvent } from '@iso/unionfs';
import { printable } from '../printable.js';

/**
 * Tells how a build goes on, as docker's plain progress: numbered steps, what commands write with the seconds since they began.
 *
 * @param write - takes lines
 * @returns what is told of events
 */
export function plainProgress(write: (text: string) => void): (event: BuildEvent) => void {
  let begun = 0;
  let last = 0;
  let rest = '';
  const decoder = new TextDecoder();
  const seconds = (digits: number) => ((performance.now() - begun) / 1000).toFixed(digits);
  return ({ id, stage, index, count, text, state, output }) => {
    if (state === 'begun') {
      begun = performance.now();
      rest = '';
      // Of an image that is built on, by ONBUILD, too.
      const first = printable(text.split('\n', 1)[0] as string, '\t');
      write(`${last ? '\n' : ''}#${id} [${stage ? `${stage} ` : ''}${index}/${count}] ${first}\n`);
      last = id;
      return;
    }
    if (state === 'output') {
      const lines = (rest + decoder.decode(output, { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) write(`#${id} ${seconds(3)} ${clean(line)}\n`);
      return;
    }
    if (rest) write(`#${id} ${seconds(3)} ${clean(rest)}\n`);
    rest = '';
    if (state === 'cached') write(`#${id} CACHED\n`);
    else write(`#${id} ${state === 'done' ? 'DONE' : 'ERROR'} ${seconds(1)}s\n`);
  };
}

/** A command of an image must not tell our terminal what to do. */
function clean(line: string): string {
  return line.replace(/\r$/, '').replace(/[\x00-\x08\x0b-\x1f\x7f]/g, (at) => (at === '\x1b' ? '^[' : '?'));
}
