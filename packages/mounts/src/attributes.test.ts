import { RecordingKernel } from '@iso/sys/testing';
import { describe, expect, it } from 'vitest';
import { MountTree } from './index.js';

describe('an id map', () => {
  const clone = (idmap: unknown) => MountTree.clone('/srv', { idmap: idmap as never });

  it('is a descriptor or what holds one, and nothing else', () => {
    const kernel = new RecordingKernel().answer('open_tree', 0x7ffffff1);
    const number = 0x7ffffff2;
    kernel.run(() => {
      for (const idmap of [{ number }, { fd: { number } }]) clone(idmap).close();
      for (const idmap of [{}, 5, 'root', { fd: 5 }])
        expect(() => clone(idmap)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
    });
    const changes = kernel.calls.filter(({ name }) => name === 'mount_setattr');
    // The last member of struct mount_attr.
    expect(changes.map(({ args }) => Buffer.from(args[3] as Uint8Array).readBigUInt64LE(24))).toEqual([
      BigInt(number),
      BigInt(number),
    ]);
  });
});
