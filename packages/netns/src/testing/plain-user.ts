// A plain user on a host that is a namespace of the test's.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { fromSources } from '../../../../test/typescript.js';
import type { NetNS } from '../index.js';
import { home } from './judge.js';

const run = promisify(execFile);

/**
 * Runs a program in TypeScript as user 65534, with a /dev/net/tun of a mount namespace of its own.
 *
 * @param host - where it runs
 * @param script - writes one line of JSON
 * @param mode - of /dev/net/tun
 * @returns what it wrote
 */
export async function asNobody(host: NetNS, script: string, mode = '666'): Promise<Record<string, unknown>> {
  const prepare = `mount -t tmpfs t /dev/net && mknod -m ${mode} /dev/net/tun c 10 200 && mount -t tmpfs t /tmp && chmod 1777 /tmp`;
  const node = [process.execPath, ...fromSources, '--input-type=module', '-e', script];
  const { stdout } = await run(
    'nsenter',
    [
      `--net=/proc/${process.pid}/fd/${host.fd.number}`,
      'unshare',
      '-m',
      'sh',
      '-c',
      `${prepare} && exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"`,
      'sh',
      ...node,
    ],
    { cwd: home, env: { ...process.env, HOME: '/tmp' } },
  );
  return JSON.parse(stdout) as Record<string, unknown>;
}
