import type { Part } from '@iso/sys';
import { expect, it } from 'vitest';
import { explainContainer } from './container.js';

it.each([
  ['', /the root is the empty string/],
  ['/no/such', /the root \/no\/such is not there/],
  ['/etc/passwd', /the root \/etc\/passwd is no directory/],
])('refuses the root %j', async (root, message) => {
  await expect(explainContainer({ root })).rejects.toThrow(message);
});

it('sets no value of a network that is another container’s', async () => {
  const network = { netns: { confine() {} } as unknown as Part, shared: true };
  const options = { root: '/', network, sysctls: { 'net.ipv4.ip_forward': '1' } };
  await expect(explainContainer(options)).rejects.toThrow(/no network namespace of its own/);
});
