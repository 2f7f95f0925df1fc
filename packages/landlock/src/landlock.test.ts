import { spawnSync } from 'node:child_process';
import { LaunchProgram } from '@iso/sys';
import { RecordingKernel } from '@iso/sys/testing';
import { describe, expect, it } from 'vitest';
import { landlock } from './index.js';
import * as raw from './raw/landlock.js';

const refusal = (message: RegExp) =>
  expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE', message: expect.stringMatching(message) });

/** The package as on a kernel with an ABI: a number, or an error. */
async function on<T>(abi: number, action: () => T): Promise<T> {
  return new RecordingKernel().answer('landlock_create_ruleset', abi).run(action);
}

const everything = {
  paths: [{ path: '/usr', access: 'all' }],
  net: { bindTcp: [80], connectUdp: [53] },
  scope: ['signal'],
  log: ['new-exec-on'],
} as const;

describe('landlock()', () => {
  it('reports what a kernel enforces, and what it does not', async () => {
    const report = (abi: number) => on(abi, () => landlock({ ...everything, mode: 'bestEffort' }).report());
    const newest = await report(10);
    expect(newest).toMatchObject({ abi: 10, net: ['bind-tcp', 'connect-send-udp'], scope: ['signal'], missing: [] });
    expect(newest.files).toHaveLength(17);
    expect(await report(7)).toMatchObject({ abi: 7, net: ['bind-tcp'], missing: ['resolve-unix', 'connect-send-udp'] });
    const third = await report(3);
    expect(third.files).toHaveLength(15);
    expect(third.missing).toEqual([
      'ioctl-dev',
      'resolve-unix',
      'bind-tcp',
      'connect-send-udp',
      'signal',
      'new-exec-on',
    ]);
    expect(await report(-95)).toMatchObject({ abi: 0, files: [], net: [], scope: [] });
    expect((await report(-38)).missing).toHaveLength(17 + 4);
  });

  it('is strict about what it was asked for', async () => {
    const strict = (abi: number, options: object) =>
      on(abi, () => landlock(options as never).confine(new LaunchProgram()));
    const paths = [{ path: '/usr', access: 'read' }];
    for (const [abi, options, message] of [
      [4, { paths }, /rights on files of ABI 5.*the kernel has ABI 4/],
      [3, { net: { bindTcp: [] } }, /bind-tcp.*has ABI 3, not 4/],
      [9, { net: { bindUdp: [] } }, /bind-udp.*has ABI 9, not 10/],
      [5, { scope: ['signal'] }, /scope signal/],
      [6, { scope: ['signal'], log: ['subdomains-off'] }, /log subdomains-off/],
      [7, { paths, abi: 9 }, /files of ABI 9/],
      [-95, { paths }, /switched off/],
      [-38, { paths }, /built without it/],
    ] as const)
      await expect(strict(abi, options), JSON.stringify(options)).rejects.toMatchObject({
        code: 'EUNSUPPORTED',
        message: expect.stringMatching(message),
      });
    await strict(2, { paths, abi: 2 });
    await strict(5, { paths });
    await expect(strict(-1000, { paths })).rejects.toMatchObject({ syscall: 'landlock_create_ruleset' });
  });

  it('refuses what is misspelt, and what restricts nothing', () => {
    const path = (more: object) => ({ paths: [{ path: '/', access: 'read', ...more }] });
    for (const [options, message] of [
      [{}, /restrict nothing/],
      [{ path: [] }, /no option: "path", there are paths/],
      [{ paths: {} }, /must be an array/],
      [path({ path: 'usr' }), /not an absolute path/],
      [path({ access: 'reed' }), /access is one of read, execute, write, all/],
      [path({ access: [] }), /access is one of/],
      [path({ access: ['reed'] }), /no right on files: "reed", there are execute/],
      [path({ access: ['resolve-unix'] }), /right of ABI 9: say abi: 9/],
      [path({ mode: 'r' }), /no option of a path: "mode"/],
      [{ net: { bind: [] } }, /no net rule: "bind", there are bindTcp/],
      [{ net: { bindTcp: 80 } }, /array of ports/],
      [{ net: { bindTcp: [65_536] } }, /no port: 65536/],
      [{ net: { bindTcp: ['80'] } }, /no port: 80/],
      [{ scope: ['signals'] }, /no scope: "signals", there are abstract-unix-socket, signal/],
      [{ scope: ['signal'], log: ['all'] }, /no log flag: "all"/],
      [{ scope: ['signal'], mode: 'best' }, /mode is strict or bestEffort/],
      [{ scope: ['signal'], abi: 11 }, /abi is from 1 to 10/],
      [{ scope: ['signal'], noNewPrivileges: 0 }, /true or false/],
    ] as const)
      expect(() => landlock(options as never), JSON.stringify(options)).toThrow(refusal(message));
    expect(() => landlock(everything).confine(new LaunchProgram('errand'))).toThrow(refusal(/not for an errand/));
  });
});

const header = spawnSync('gcc', ['-E', '-dM', '-'], { input: '#include <linux/landlock.h>', encoding: 'utf8' });

it.skipIf(header.status !== 0)(
  'numbers are those of the header, as far as it goes [needs gcc and linux-libc-dev]',
  () => {
    const theirs = new Map(
      [...header.stdout.matchAll(/^#define LANDLOCK_(\w+)\s+\(1U?L?L? << (\d+)\)$/gm)].map(([, name, bit]) => [
        name,
        Number(bit),
      ]),
    );
    const ours = new Map<string, number>();
    const take = (prefix: string, table: Record<string, { bit: number }>) => {
      for (const [name, { bit }] of Object.entries(table))
        ours.set(`${prefix}${name.toUpperCase().replaceAll('-', '_')}`, bit);
    };
    take('ACCESS_FS_', raw.fsRights);
    take('ACCESS_NET_', raw.netRights);
    take('SCOPE_', raw.scopes);
    take('RESTRICT_SELF_LOG_', raw.logFlags);
    const common = [...theirs].filter(([name = '']) => ours.has(name));
    expect(common.length).toBeGreaterThan(12);
    expect(common.filter(([name = '', bit]) => ours.get(name) !== bit)).toEqual([]);
  },
);
