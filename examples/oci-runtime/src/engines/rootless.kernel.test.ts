// podman without privileges: it calls the runtime in a user namespace of its own, where that is root and outside is not.
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Place, type Said } from '../testing/place.js';
import { podmanSettings } from '../testing/podman.js';

const has = (program: string) => spawnSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' }).status === 0;
const missing = process.env.ISO_LONG
  ? [
      ...(process.getuid?.() === 0 ? [] : ['root, to become a plain user']),
      ...(existsSync('/bin/busybox') ? [] : ['busybox-static']),
      ...['podman', 'newuidmap'].filter((program) => !has(program)),
    ]
  : ['ISO_LONG=1'];
const needs = missing.length ? ` [needs ${missing.join(', ')}]` : '';
const NOBODY = 65534;
/** An emulated machine takes ten times as long. */
const SLOW_MS = 120_000;
const image = 'localhost/iso-test';

describe.skipIf(needs)(
  `rootless podman${needs}`,
  () => {
    let place: Place;
    let podman: (words: readonly string[], options?: { input?: Buffer }) => Said;
    const run = (...words: string[]) => podman(['run', '--network', 'none', '--cgroups', 'disabled', ...words]);
    beforeAll(() => {
      place = new Place();
      const file = (name: string) => join(place.folder, name);
      writeFileSync(file('sub'), 'nobody:200000:65536\n');
      for (const path of ['/etc/subuid', '/etc/subgid']) place.run(['mount', '--bind', file('sub'), path]);
      writeFileSync(file('conf'), podmanSettings(place));
      const input = execFileSync('tar', ['-C', place.busybox(), '-c', '.'], { maxBuffer: 2 ** 26 });
      mkdirSync(file('run'));
      chmodSync(file('run'), 0o700);
      execFileSync('chown', ['-R', `${NOBODY}:${NOBODY}`, place.folder]);
      const variables = {
        PATH: process.env.PATH,
        HOME: place.folder,
        XDG_RUNTIME_DIR: file('run'),
        CONTAINERS_CONF: file('conf'),
      };
      const words = [
        ...['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', '--inh-caps=-all'],
        ...['env', '-i', ...Object.entries(variables).map(([name, value]) => `${name}=${value}`)],
        ...['podman', '--root', file('root'), '--runroot', file('state'), '--storage-driver', 'vfs'],
      ];
      podman = (more, options) => place.run([...words, ...more], options);
      expect(podman(['import', '-', image], { input }).stderr).toMatch(/Storing signatures/);
    }, SLOW_MS);
    afterEach(() => {
      podman(['rm', '--all', '--force', '--time', '0']);
      expect(podman(['ps', '--all', '--quiet']).stdout).toBe('');
    }, SLOW_MS);
    afterAll(() => {
      // Its pause process holds its namespaces.
      podman(['system', 'migrate']);
      place.close();
    }, SLOW_MS);

    it('runs, with the ids of its user and of /etc/subuid', () => {
      expect(run('--rm', image, 'sh', '-c', 'id -u; cat /proc/self/uid_map; exit 5')).toMatchObject({
        code: 5,
        stdout: expect.stringMatching(/^0\n +0 +65534 +1\n +1 +200000 +65536\n$/),
        stderr: '',
      });
      expect(run('--rm', '--user', '5:6', image, 'id', '-u').stdout).toBe('5\n');
    });

    it('detached: exec, kill, its code', () => {
      expect(run('-d', '--name', 'box', image, 'sleep', '1000')).toMatchObject({ code: 0 });
      expect(podman(['exec', 'box', 'sh', '-c', 'echo inside; exit 4'])).toMatchObject({ code: 4, stdout: 'inside\n' });
      expect(podman(['kill', 'box']).code).toBe(0);
      expect(podman(['wait', 'box']).stdout).toBe('137\n');
    });
  },
  SLOW_MS,
);
