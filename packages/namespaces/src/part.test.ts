import { describe, expect, it } from 'vitest';
import { namespaces } from './index.js';

describe('namespaces', () => {
  it('refuses what would be left out silently', () => {
    for (const [options, message] of [
      [{ mnt: 'new' }, /no type of namespace: "mnt", there are .*mount/],
      [{ constructor: 'new' }, /no type of namespace/],
      [{ pid: 'nwe' }, /^pid: not new, host, .*nwe/],
      [{ net: 4711 }, /^net: not new/],
      [{ net: true }, /^net: not new/],
      [{ ipc: null }, /^ipc: not new/],
      [{ ipc: {} }, /^ipc has no option/],
      [{ net: { hostname: 'box' } }, /^net has no option "hostname"/],
      [{ uts: { hostnme: 'box' } }, /^uts has no option "hostnme", there are hostname, domainname/],
      [{ time: { uptime: 1 } }, /^time has no option "uptime"/],
      [{ user: { uidMaps: [] } }, /^user has no option "uidMaps"/],
    ] as const) {
      const refusal = { code: 'ERR_INVALID_ARG_VALUE', message: expect.stringMatching(message) };
      expect(() => namespaces(options as never), JSON.stringify(options)).toThrow(expect.objectContaining(refusal));
    }
  });

  it('takes every choice there is', () => {
    namespaces({ mount: 'new', pid: 'host', net: { pid: 1 }, ipc: { path: '/x' }, uts: {}, time: { boottime: 1 } });
    namespaces({ user: 'auto', cgroup: undefined } as never);
    namespaces({ user: { uidMap: [], gidMap: [], setgroups: 'deny' } });
  });
});
