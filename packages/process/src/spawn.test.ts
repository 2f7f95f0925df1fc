import { RecordingKernel } from '@iso/sys/testing';
import { expect, it } from 'vitest';
import { run, spawn } from './index.js';

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

it.each<[object, RegExp]>([
  [{ timeout: '1' }, /timeout must be milliseconds up to 2147483647, it is "1"/],
  [{ timeout: null }, /timeout must be milliseconds/],
  [{ rlimits: { constructor: 1 } }, /no resource limit is called constructor/],
  [{ env: { A: 1 } }, /the environment variable A must be a string, it is 1/],
  [{ env: { A: null } }, /the environment variable A must be a string, it is null/],
])('refuses %j', async (options, message) => {
  const refusal = { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE', message: expect.stringMatching(message) };
  await expect(spawn('/bin/true', [], options)).rejects.toMatchObject(refusal);
  await expect(run('/bin/true', [], options)).rejects.toMatchObject(refusal);
});
