import { spawnSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fromSources } from '../../../../test/typescript.js';
import type { Config } from '../config/spec.js';

/** For tests: a folder with a root of busybox, bundles, and a store. */
export class Lab {
  readonly folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
  readonly rootfs = join(this.folder, 'rootfs');
  readonly store = join(this.folder, 'store');

  constructor(busybox: string) {
    for (const name of ['bin', 'proc', 'sys', 'dev', 'etc', 'tmp'])
      mkdirSync(join(this.rootfs, name), { recursive: true });
    copyFileSync(busybox, join(this.rootfs, 'bin/busybox'));
    const tools = [
      'sh',
      'cat',
      'ls',
      'sleep',
      'tail',
      'id',
      'hostname',
      'grep',
      'stat',
      'touch',
      'tty',
      'true',
      'umount',
      'mount',
      'mkdir',
      'uname',
      'ionice',
      'readlink',
    ];
    for (const tool of tools) symlinkSync('busybox', join(this.rootfs, 'bin', tool));
  }

  /** A bundle, as engines write them, with changes. */
  bundle(
    name: string,
    args: readonly string[],
    change: (config: Config & Record<string, unknown>) => void = () => {},
  ): string {
    const directory = join(this.folder, name);
    mkdirSync(directory, { recursive: true });
    const config = {
      ociVersion: '1.2.0',
      root: { path: this.rootfs, readonly: false },
      hostname: 'box',
      process: {
        user: { uid: 0, gid: 0 },
        args,
        env: ['PATH=/bin', 'TERM=xterm'],
        cwd: '/',
        noNewPrivileges: true,
        capabilities: Object.fromEntries(
          ['bounding', 'effective', 'permitted'].map((set) => [set, ['CAP_KILL', 'CAP_CHOWN']]),
        ),
        rlimits: [{ type: 'RLIMIT_NOFILE', soft: 100, hard: 200 }],
      },
      mounts: [
        { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
        {
          destination: '/dev',
          type: 'tmpfs',
          source: 'tmpfs',
          options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
        },
        {
          destination: '/dev/pts',
          type: 'devpts',
          source: 'devpts',
          options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
        },
        { destination: '/tmp', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'nodev', 'size=1m', 'mode=1777'] },
      ],
      linux: {
        namespaces: ['pid', 'network', 'ipc', 'uts', 'mount'].map((type) => ({ type })),
        cgroupsPath: `/iso-test-${process.pid}/${name}`,
        resources: { devices: [{ allow: false, access: 'rwm' }], pids: { limit: 50 } },
        maskedPaths: ['/proc/kcore'],
        readonlyPaths: ['/proc/sys'],
      },
    } as unknown as Config & Record<string, unknown>;
    change(config);
    writeFileSync(join(directory, 'config.json'), JSON.stringify(config));
    return directory;
  }

  /** Runs the command. Its output goes to files: a container that it leaves running has it too, and keeps pipes open. */
  oci(...args: string[]): { code: number | null; stdout: string; stderr: string } {
    const paths = ['stdout', 'stderr'].map((name) => join(this.folder, name));
    const files = paths.map((path) => openSync(path, 'w'));
    const { status } = spawnSync(process.execPath, [...command, '--root', this.store, ...args], {
      stdio: ['ignore', ...files],
      timeout: process.env.ISO_SLOW ? 200_000 : 20_000,
    });
    for (const file of files) closeSync(file);
    const [stdout = '', stderr = ''] = paths.map((path) => readFileSync(path, 'utf8'));
    return { code: status, stdout, stderr };
  }
}

/** What Node is given to run `iso-oci`. */
export const command: readonly string[] = process.env.ISO_OCI
  ? [process.env.ISO_OCI]
  : [...fromSources, fileURLToPath(new URL('../cli.ts', import.meta.url))];
