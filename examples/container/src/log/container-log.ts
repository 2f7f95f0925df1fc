import { join } from 'node:path';
import { parseBytes, UsageError } from '../options.js';
import { RotatedFile, type Rotation } from './rotated.js';

/** Where a line came from. */
export type LogStream = 'stdout' | 'stderr';

/** A line of a log, in docker's json-file form. */
export interface LogEntry {
  /** With its line feed; without one where the line goes on in the next entry, or was never ended. */
  log: string;
  stream: LogStream;
  /** ISO 8601. */
  time: string;
}

/** A longer line is several entries, as docker's. */
const LONGEST = 16384;
const LINE_FEED = 10;

/**
 * Path of a container's log.
 *
 * @param directory - of its record
 */
export function logFile(directory: string): string {
  return join(directory, 'log.json');
}

/**
 * Parses docker's `--log-opt`.
 *
 * @param texts - each `max-size=BYTES` or `max-file=N`
 * @returns how the log is rotated
 * @throws {@link UsageError}
 */
export function parseLogOptions(texts: readonly string[]): Rotation {
  const rotation: Rotation = {};
  for (const text of texts) {
    const [key, value = ''] = text.split(/=(.*)/s);
    if (key === 'max-size') rotation.maxBytes = parseBytes(value);
    else if (key === 'max-file' && /^[1-9]\d{0,3}$/.test(value)) rotation.files = Number(value);
    else throw new UsageError(`not an option of a log: ${JSON.stringify(text)}, there are max-size=BYTES, max-file=N`);
  }
  if (rotation.maxBytes === 0) throw new UsageError('max-size is a byte or more');
  if ((rotation.files ?? 1) > 1 && rotation.maxBytes === undefined)
    throw new UsageError('max-file needs max-size: a file that is never full has no successor');
  return rotation;
}

/** What a container writes, line by line. */
export class ContainerLog implements Disposable {
  readonly #file: RotatedFile;
  /** Of each stream what has no end yet. */
  readonly #rest: Record<LogStream, Buffer> = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };

  /**
   * @param directory - of the container's record
   * @param rotation - default: it grows
   */
  constructor(directory: string, rotation: Rotation = {}) {
    this.#file = RotatedFile.open(logFile(directory), rotation);
  }

  /** Adds what came; a line that has not ended waits for its end. */
  write(stream: LogStream, chunk: Buffer): void {
    const before = this.#rest[stream];
    const bytes = before.length ? Buffer.concat([before, chunk]) : chunk;
    const time = new Date().toISOString();
    const { ends, long } = lineEnds(bytes);
    const end = ends.at(-1) ?? 0;
    const text = bytes.toString('utf8', 0, end);
    if (end > 0 && !long && !text.includes('\\')) {
      // Many lines at once: what a line feed is in JSON is nothing else then.
      const between = `\\n","stream":"${stream}","time":"${time}"}\n`;
      const escaped = JSON.stringify(text).slice(1, -3);
      // Beforehand: lines that cannot be written are lost whole.
      this.#rest[stream] = Buffer.from(bytes.subarray(end));
      this.#file.append(`{"log":"${escaped.replaceAll('\\n', `${between}{"log":"`)}${between}`);
      return;
    }
    let at = 0;
    let entries = '';
    const add = (to: number) => {
      entries += `${JSON.stringify({ log: bytes.toString('utf8', at, to), stream, time } satisfies LogEntry)}\n`;
      at = to;
    };
    for (const next of [...ends, bytes.length]) {
      while (next - at > LONGEST) add(characterStart(bytes, at + LONGEST));
      if (next <= end && next > at) add(next);
    }
    this.#rest[stream] = Buffer.from(bytes.subarray(at));
    this.#file.append(entries);
  }

  /** What was never ended is written as it is. */
  [Symbol.dispose](): void {
    using file = this.#file;
    const time = new Date().toISOString();
    let entries = '';
    for (const stream of ['stdout', 'stderr'] as const) {
      const rest = this.#rest[stream];
      if (rest.length) entries += `${JSON.stringify({ log: rest.toString('utf8'), stream, time })}\n`;
      this.#rest[stream] = Buffer.alloc(0);
    }
    file.append(entries);
  }
}

/** Where each line ends, and whether one is too long for an entry. */
function lineEnds(bytes: Buffer): { ends: number[]; long: boolean } {
  const ends: number[] = [];
  let long = false;
  let last = 0;
  for (let feed = bytes.indexOf(LINE_FEED); feed >= 0; feed = bytes.indexOf(LINE_FEED, last)) {
    long ||= feed + 1 - last > LONGEST;
    last = feed + 1;
    ends.push(last);
  }
  return { ends, long: long || bytes.length - last > LONGEST };
}

/** The place of a cut that is not within a character of UTF-8. */
function characterStart(bytes: Buffer, at: number): number {
  let start = at;
  while (start > at - 4 && ((bytes[start] ?? 0) & 0xc0) === 0x80) start--;
  return start;
}
