import { RecordingKernel } from '@iso/sys/testing';
import { expect, it } from 'vitest';
import { spawn } from './index.js';

it('starts on a kernel that only plays, with pipes and an exit', async () => {
  const kernel = new RecordingKernel();
  const exit = await kernel.run(async () => {
    const child = await spawn('/bin/true', [], { stdio: 'pipe', env: {} });
    return child.exited;
  });
  expect(exit).toMatchObject({ code: 0, signal: null });
  expect(kernel.launches).toHaveLength(1);
  expect(kernel.launches[0]?.steps.at(-1)?.text).toMatch(/^execve\("\/bin\/true"/);
});
