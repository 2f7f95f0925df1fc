import { createHash } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Digest } from './digest.js';
import { Ring } from './ring.js';

let folder = '';
const content = Buffer.alloc(5_300_001, 'what a file holds, ');
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-digest-'));
  writeFileSync(join(folder, 'file'), content);
});
afterAll(() => rmSync(folder, { recursive: true }));

/** What is read of a file, up to a number of pieces. */
async function read(flags = 'r', most = Number.POSITIVE_INFINITY): Promise<Buffer> {
  const fd = openSync(join(folder, flags === 'r' ? 'file' : 'written'), flags);
  try {
    using digest = new Digest();
    const parts: Buffer[] = [];
    for await (const bytes of digest.read(fd)) {
      expect(digest.holds(bytes)).toBe(true);
      if (parts.push(Buffer.from(bytes)) === most) break;
    }
    return Buffer.concat(parts);
  } finally {
    closeSync(fd);
  }
}

describe('what the other thread reads', () => {
  it('is all of a file, again and again', async () => {
    for (let i = 0; i < 3; i++) expect((await read()).equals(content)).toBe(true);
  });

  it('may be given up, and the next file is read whole', async () => {
    for (const most of [1, 3, 20]) {
      expect((await read('r', most)).equals(content.subarray(0, most << 18))).toBe(true);
      expect((await read()).equals(content)).toBe(true);
    }
  });

  it('fails as read(2) does, and the next file is read whole', async () => {
    await expect(read('w')).rejects.toMatchObject({ code: 'EBADF', syscall: 'read' });
    expect((await read()).equals(content)).toBe(true);
  });

  it('is hashed by itself, whatever was given up right before', async () => {
    const whole = createHash('sha256').update(content).digest('hex');
    for (let i = 0; i < 3; i++) {
      const ring = new Ring();
      const file = openSync(join(folder, 'file'), 'r');
      for await (const _ of ring.read(file)) break;
      const givenUp = ring.ask();
      const again = openSync(join(folder, 'file'), 'r');
      for await (const _ of ring.read(again));
      expect(await ring.ask()).toBe(whole);
      expect(await givenUp).not.toBe(whole);
      for (const fd of [file, again]) closeSync(fd);
    }
  });

  it('fails for whoever waits, also for what was given up right before', async () => {
    for (let i = 0; i < 3; i++) {
      const ring = new Ring();
      const file = openSync(join(folder, 'file'), 'r');
      for await (const _ of ring.read(file)) break;
      const givenUp = ring.ask().catch((error) => error.code);
      const written = openSync(join(folder, 'written'), 'w');
      const failed = (async () => {
        for await (const _ of ring.read(written));
      })();
      await expect(failed).rejects.toMatchObject({ code: 'EBADF' });
      expect([undefined, 'EBADF']).toContain(await givenUp.then((hex) => (hex === 'EBADF' ? hex : undefined)));
      for (const fd of [file, written]) closeSync(fd);
    }
  });
});
