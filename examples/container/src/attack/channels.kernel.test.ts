// What two containers that are to know nothing of one another could speak through, and what a group is kept from.
import { chmodSync, chownSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawn } from '@iso/process';
import { afterAll, describe, expect, it } from 'vitest';
import { type ContainerOptions, run } from '../index.js';
import { lacking } from '../testing/lacking.js';
import { output, perl, shell } from './fixture.js';

const missing = lacking('flock', 'perl');
const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
chmodSync(folder, 0o755);
mkdirSync(join(folder, 'shared'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Channel {
  name: string;
  /** What one container does, and keeps on doing. */
  send: string;
  /** Ends with 0 where another one notices. */
  receive: string;
  /** What both have in common where there is no protection. */
  common: Partial<ContainerOptions>;
}

const channels: Channel[] = [
  {
    name: 'files in /dev/shm',
    send: 'echo secret >/dev/shm/channel',
    receive: 'grep -q secret /dev/shm/channel',
    common: { volumes: [{ source: join(folder, 'shared'), target: '/dev/shm', readonly: false }] },
  },
  {
    name: 'locks on files of one and the same root',
    send: 'exec 9</etc/passwd; flock 9',
    receive: '! flock -n /etc/passwd true',
    common: { volumes: [{ source: '/etc', target: '/etc', readonly: true }] },
  },
  {
    name: 'System V shared memory',
    send: perl('exit(defined(shmget(4242, 4096, 01666)) ? 0 : 1)'),
    receive: perl('exit(defined(shmget(4242, 4096, 0666)) ? 0 : 1)'),
    common: { ipc: 'host' },
  },
  {
    name: 'abstract sockets',
    send: `{ ${perl('use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0); bind($s, pack("S a*", AF_UNIX, "\\0iso-test-channel")); listen($s, 1); sleep 60')} & } ; until grep -q @iso-test-channel /proc/net/unix; do sleep 0.02; done`,
    receive: 'grep -q @iso-test-channel /proc/net/unix',
    common: { network: 'host' },
  },
];

describe.skipIf(missing)(`two containers${missing}`, () => {
  it.each(channels)('have no channel: $name', async ({ name, send, receive, common }) => {
    const heard = async (options: Partial<ContainerOptions>): Promise<boolean> => {
      const speaks = `${send} && echo sent; sleep 60`;
      await using box = await run({
        root: '/',
        ...options,
        command: ['sh', '-c', speaks],
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      for await (const chunk of box.child.stdout ?? []) if (String(chunk).includes('sent')) break;
      return (await shell(options, `${receive} && echo heard; true`)) === 'heard\n';
    };
    try {
      expect(await heard({})).toBe(false);
      expect(await heard(common)).toBe(true);
    } finally {
      // It outlives who made it, where that is not in a namespace of its own.
      if (name.startsWith('System V'))
        await spawn('ipcrm', ['-M', '4242'], { stdio: 'ignore' }).then(({ exited }) => exited);
    }
  });
});

it.skipIf(missing)(
  `a set-group-id program takes nobody out of a group that is kept from a file (CVE-2022-36109)${missing}`,
  async () => {
    const [secret, cat] = [join(folder, 'secret'), join(folder, 'cat')];
    writeFileSync(secret, 'kept from the group');
    chownSync(secret, 0, 1000);
    chmodSync(secret, 0o604);
    copyFileSync('/bin/cat', cat);
    chownSync(cat, 0, 2000);
    chmodSync(cat, 0o2755);
    const volumes = [{ source: folder, target: '/data', readonly: true }];
    const script = 'cat /data/secret 2>/dev/null; /data/cat /data/secret 2>/dev/null; true';
    // Set-group-id programs work, so that this alone is on trial.
    expect(await shell({ user: '1000:1000', noNewPrivileges: false, volumes }, script)).toBe('');
    await using box = await run({ root: '/', noNewPrivileges: false, volumes, command: ['sleep', '60'] });
    const exec = await box.exec(['sh', '-c', script], { user: '1000:1000' });
    expect(await output({ child: exec, exited: exec.exited })).toBe('');
    const plain = await spawn('sh', ['-c', script.replaceAll('/data', folder)], { uid: 1000, gid: 1000, groups: [] });
    expect(await output({ child: plain, exited: plain.exited })).toBe('kept from the group');
  },
);
