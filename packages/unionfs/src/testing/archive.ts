// Archives for tests, written entry by entry.
import type { TarEntry } from '../tar/entry.js';
import { paxRecord } from '../tar/pax.js';
import { tarEnd, tarHeader, tarPadding } from '../tar/writer.js';

/** What of an entry differs from a plain file of root; its content. */
export type Sketch = Partial<Omit<TarEntry, 'path' | 'linkpath'>> & {
  path: string | Buffer;
  linkpath?: string | Buffer;
  content?: string | Buffer;
};

/**
 * Headers and content of entries, without an end.
 *
 * @param sketches - entries
 * @returns the archive
 */
export function entries(...sketches: Sketch[]): Buffer {
  return Buffer.concat(
    sketches.flatMap(({ path, linkpath, content = '', ...rest }) => {
      const body = Buffer.from(content);
      const entry: TarEntry = {
        path: Buffer.from(path),
        type: 'file',
        mode: rest.type === 'directory' ? 0o755 : 0o644,
        uid: 0,
        gid: 0,
        size: body.length,
        mtime: 1_700_000_000_000_000_000n,
        ...rest,
        ...(linkpath === undefined ? {} : { linkpath: Buffer.from(linkpath) }),
      };
      return [tarHeader(entry), body, tarPadding(body.length)];
    }),
  );
}

/** A whole archive as a source. */
export async function* archive(...parts: (Sketch | Buffer)[]): AsyncGenerator<Buffer> {
  for (const part of parts) yield Buffer.isBuffer(part) ? part : entries(part);
  yield tarEnd();
}

/** A header that nobody should write: fields of a good one replaced, the sum made right. */
export function forged(sketch: Sketch, change: (block: Buffer) => void): Buffer {
  const bytes = entries(sketch);
  const block = bytes.subarray(0, 512);
  change(block);
  block.fill(0x20, 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return bytes;
}

/** An extended header: its records, or its body as it is, right or wrong. */
export function pax(content: Record<string, string> | string | Buffer, type = 'x'): Buffer {
  const body =
    typeof content === 'string' || Buffer.isBuffer(content)
      ? content
      : Buffer.concat(Object.entries(content).map(([key, value]) => paxRecord(key, Buffer.from(value))));
  return forged({ path: 'PaxHeaders.0/x', content: body }, (block) => block.write(type, 156));
}
