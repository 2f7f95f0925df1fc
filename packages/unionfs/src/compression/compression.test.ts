// What archives are compressed with. The judge of zstd is its own program.
import { execFileSync, spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { tar } from '../testing/image.js';
import { decompress, detectCompression } from './compression.js';

const zstd = spawnSync('sh', ['-c', 'command -v zstd']).status === 0;

describe.skipIf(!zstd)(`frames that zstd passes over${zstd ? '' : ' [needs zstd]'}`, () => {
  const archive = tar({ path: 'a', content: 'inside' });
  const skipped = (kind: number, length: number) => {
    const head = Buffer.from([0x50 | kind, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
    head.writeUInt32LE(length, 4);
    return Buffer.concat([head, Buffer.alloc(length, 0x1f)]);
  };
  const compressed = zstd ? execFileSync('zstd', ['-c'], { input: archive }) : Buffer.alloc(0);

  it.each([
    ['one', [skipped(0, 20)]],
    ['several, of any kind', [skipped(15, 3), skipped(7, 0), skipped(1, 1_000_000)]],
  ])('may come first: %s', async (_, frames) => {
    const bytes = Buffer.concat([...frames, compressed]);
    expect(execFileSync('zstd', ['-dc'], { input: bytes }).equals(archive)).toBe(true);
    expect(detectCompression(bytes.subarray(0, 6))).toBe('zstd');
    async function* source() {
      for (let i = 0; i < bytes.length; i += 1000) yield bytes.subarray(i, i + 1000);
    }
    const parts: Uint8Array[] = [];
    for await (const part of decompress(source())) parts.push(part);
    expect(Buffer.concat(parts).equals(archive)).toBe(true);
  });
});
