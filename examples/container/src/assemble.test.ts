import { expect, it } from 'vitest';
import { explainContainer } from './container.js';

it.each([
  ['', /the root is the empty string/],
  ['/no/such', /the root \/no\/such is not there/],
  ['/etc/passwd', /the root \/etc\/passwd is no directory/],
])('refuses the root %j', async (root, message) => {
  await expect(explainContainer({ root })).rejects.toThrow(message);
});
