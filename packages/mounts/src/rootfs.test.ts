import { LaunchProgram } from '@iso/sys';
import { describe, expect, it } from 'vitest';
import { rootfs } from './index.js';

describe('rootfs', () => {
  it('refuses what would be left out silently', () => {
    const root = { open: () => undefined };
    for (const [options, message] of [
      ['/srv', /takes options/],
      [undefined, /takes options/],
      [{ readOnly: true }, /no option "readOnly", there are .*readonly/],
      [{ directory: '/', root }, /not both/],
    ] as const) {
      const refusal = { code: 'ERR_INVALID_ARG_VALUE', message: expect.stringMatching(message) };
      expect(() => rootfs(options as never), String(message)).toThrow(expect.objectContaining(refusal));
    }
  });

  it('refuses a second root of one launch', () => {
    const program = new LaunchProgram();
    void rootfs({ directory: '/' }).confine(program);
    expect(() => rootfs({ directory: '/' }).confine(program)).toThrow(/one root/);
  });
});
