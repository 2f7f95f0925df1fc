import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fromSources } from '../../../test/typescript.js';
import type { Support } from './index.js';
import { root, userns } from './launcher/fixture.js';

const strace = spawnSync('strace', ['-f', 'true']).status === 0;

/** What another process finds out, behind `prefix`. */
function found(...prefix: string[]): Record<string, Support> {
  const script = `import { features } from ${JSON.stringify(join(import.meta.dirname, 'index.ts'))};
    const found = Object.entries(features).map(([name, feature]) => [name, feature.probe()]);
    console.log(JSON.stringify(Object.fromEntries(found), (_, value) =>
      value instanceof Error ? { code: value.code, message: value.message } : value));`;
  const node = [process.execPath, ...fromSources, '--input-type=module', '-e', script];
  return JSON.parse(execFileSync('env', [...prefix, ...node], { encoding: 'utf8' }));
}

/** The same while the kernel answers some calls with an error. */
function injected(error: string, calls: string[]): Record<string, Support> {
  const list = calls.join(',');
  return found('strace', '-f', '-o', '/dev/null', '-e', `trace=${list}`, '-e', `inject=${list}:error=${error}`);
}

describe.skipIf(!strace)('features whose calls fail [needs strace]', () => {
  const calls = {
    clone3: 'clone3',
    pidfdOpen: 'pidfd_open',
    closeRange: 'close_range',
    openat2: 'openat2',
    mountDescriptors: 'open_tree',
    mountSetattr: 'mount_setattr',
  };

  it('are unsupported for ENOSYS', () => {
    const states = injected('ENOSYS', Object.values(calls));
    for (const [name, call] of Object.entries(calls))
      expect(states[name], call).toEqual({
        state: 'unsupported',
        reason: expect.stringContaining('ENOSYS'),
        since: expect.stringMatching(/^5\./),
      });
    expect(states.executableMemfd).toEqual({ state: 'supported' });
  });

  it('are unknown for what permission or scarcity answers', () => {
    for (const error of ['EPERM', 'EMFILE']) {
      const states = injected(error, ['pidfd_open', 'close_range', 'openat2', 'open_tree']);
      for (const name of ['pidfdOpen', 'closeRange', 'openat2', 'mountDescriptors'])
        expect(states[name], name).toMatchObject({ state: 'unknown', cause: { code: error } });
    }
  });
});

describe('user namespaces', () => {
  it.skipIf(!userns)('are what unshare(1) gets, for everybody [needs user namespaces]', () => {
    const plain = root ? ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'] : [];
    for (const prefix of [[], plain]) {
      const theirs = spawnSync('env', [...prefix, 'unshare', '-Ur', 'true']).status === 0;
      expect(found(...prefix).userNamespaces?.state === 'supported', prefix.join(' ')).toBe(theirs);
    }
  });

  it.skipIf(!userns)('are unsupported, with the sysctl, where there may be none [needs user namespaces]', () => {
    const none = 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$0" "$@"';
    expect(found('unshare', '-U', '-r', 'sh', '-c', none).userNamespaces).toEqual({
      state: 'unsupported',
      reason: 'the sysctl user.max_user_namespaces is 0',
      since: '3.8',
    });
  });

  it.skipIf(!root)('are unsupported in a chroot [needs root]', () => {
    const enter = `mount -t tmpfs none /mnt && mkdir /mnt/r
      for d in /*; do
        if [ -L "$d" ]; then cp -a "$d" /mnt/r
        elif [ -d "$d" ] && [ "$d" != /mnt ]; then mkdir "/mnt/r$d" && mount --rbind "$d" "/mnt/r$d"
        fi
      done
      exec chroot /mnt/r env -C "$PWD" "$0" "$@"`;
    const { userNamespaces } = found('unshare', '-m', '--propagation', 'private', 'sh', '-c', enter);
    expect(userNamespaces).toEqual({ state: 'unsupported', reason: 'this process runs in a chroot', since: '3.8' });
  });
});
