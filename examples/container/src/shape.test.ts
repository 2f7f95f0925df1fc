import { describe, expect, it } from 'vitest';
import { explainContainer, run, UsageError } from './index.js';

/** What cannot be written in TypeScript. */
const wrong = (options: object) => options as Parameters<typeof run>[0];

describe('options of a container', () => {
  it.each([
    { readOnly: true },
    { capdrop: ['ALL'] },
    { pidLimit: 2 },
    { capDrop: 'ALL' },
    { user: 1 },
    { env: { A: '1' } },
    { volumes: ['/a:/b'] },
    { tmpfs: ['/tmp'] },
    { command: 'ls' },
    { memory: '64m' },
    { pidsLimit: '2' },
    { init: 'x' },
    { readonly: 'yes' },
    { root: 1 },
    { stdio: 1 },
  ])('are not what they may not be: %j', async (options) => {
    const [name] = Object.keys(options);
    const refused = { name: 'UsageError', code: 'ERR_INVALID_ARG_VALUE', message: expect.stringContaining(`${name}`) };
    await expect(run(wrong({ root: '/', ...options }))).rejects.toMatchObject(refused);
    await expect(explainContainer(wrong({ root: '/', ...options }))).rejects.toMatchObject(refused);
  });

  it('are there', async () => {
    for (const options of [undefined, null, 'x', []])
      await expect(run(wrong(options as unknown as object))).rejects.toThrow(UsageError);
  });
});
