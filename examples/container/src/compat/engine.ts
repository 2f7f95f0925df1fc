import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { command } from '../testing/command.js';
import type { Line } from './lines.js';

/** What a line does: what can be compared of it. */
export interface Outcome {
  code: number;
  stdout: string;
  /** Whether it fails and says why: the words are an engine's own, and who succeeds may show its progress. */
  complains: boolean;
}

/** Something that understands docker's words. */
export interface Engine {
  name: 'podman' | 'iso';
  /** Of a shell, what `docker` is; $STATE is where its state is. */
  docker: string;
  /** What of $STATE is kept from one state to the next: the image. */
  kept: readonly string[];
}

export const iso: Engine = {
  name: 'iso',
  docker: `ISO_ROOT=$STATE exec ${[process.execPath, ...command].map((word) => `'${word}'`).join(' ')} "$@"`,
  kept: ['images', 'snapshots'],
};

/** By the file driver, cgroups and locks that it needs no daemon and leaves nothing for; limits are not raised. */
export function podman(runtime: string): Engine {
  const options = `--root $STATE/root --runroot $STATE/run --storage-driver vfs --cgroup-manager cgroupfs --runtime ${runtime}`;
  return {
    name: 'podman',
    docker: `export CONTAINERS_CONF=$STATE/../../podman.conf\nexec podman ${options} "$@"`,
    kept: ['root/vfs', 'root/vfs-images', 'root/vfs-layers'],
  };
}

/** A folder with an image that each engine has, and room for states of them. */
export class Desk {
  readonly #folder: string;
  #states = 0;

  constructor(folder: string, busybox: string) {
    this.#folder = folder;
    const root = join(folder, 'root');
    for (const name of ['bin', 'dev', 'etc', 'home/me', 'mnt', 'proc', 'run', 'scratch', 'sys', 'tmp'])
      mkdirSync(join(root, name), { recursive: true });
    copyFileSync(busybox, join(root, 'bin/busybox'));
    const applets = spawnSync(busybox, ['--list'], { encoding: 'utf8' }).stdout.split('\n');
    for (const name of applets) if (name && name !== 'busybox') symlinkSync('busybox', join(root, 'bin', name));
    const etc = {
      passwd: 'root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n',
      group: 'root:x:0:\nme:x:1000:\nstaff:x:50:\n',
      motd: 'welcome\n',
      // An engine without them adds them.
      ...{ hosts: '', hostname: '', 'resolv.conf': '' },
    };
    for (const [name, text] of Object.entries(etc)) writeFileSync(join(root, 'etc', name), text);
    writeFileSync(join(root, 'bin/serve'), SERVE);
    chmodSync(join(root, 'bin/serve'), 0o755);
    spawnSync('tar', ['-C', root, '-cf', join(folder, 'root.tar'), '.']);
    // Podman's own may not be there, and of what an init does only that it is another process matters here.
    writeFileSync(join(folder, 'init'), '#!/bin/sh\nshift\n"$@"\n');
    chmodSync(join(folder, 'init'), 0o755);
    writeFileSync(join(folder, 'podman.conf'), podmanConfiguration(folder));
  }

  /** Imports the image: what each state of the engine begins with. */
  prepare(engine: Engine): Outcome {
    const place = join(this.#folder, engine.name);
    rmSync(place, { recursive: true, force: true });
    return this.#run(engine, { line: 'docker import root.tar box && docker run --rm box true' }, place);
  }

  /**
   * Runs a line in a state of its own.
   *
   * @returns what is left when ids, times and the like are taken out
   * @throws Error where what belongs before it fails
   */
  run(engine: Engine, line: Line): Outcome {
    const state = join(this.#folder, String(this.#states++));
    mkdirSync(join(state, 'state/root'), { recursive: true });
    for (const path of engine.kept)
      spawnSync('cp', ['-a', join(this.#folder, engine.name, 'state', path), join(state, 'state', dirname(path))]);
    try {
      return this.#run(engine, line, state);
    } finally {
      // Podman's monitors tidy up after their containers, and may not be done yet.
      rmSync(state, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
    }
  }

  #run(engine: Engine, { line, before = ':' }: Line, place: string): Outcome {
    const bin = join(place, 'bin');
    for (const path of [bin, join(place, 'state'), join(place, 'data')]) mkdirSync(path, { recursive: true });
    writeFileSync(join(bin, 'docker'), `#!/bin/sh\n${engine.docker}\n`);
    chmodSync(join(bin, 'docker'), 0o755);
    writeFileSync(join(place, 'data/file'), 'content\n');
    writeFileSync(join(place, 'vars'), '# comment\nX=early\nY=a "b" c\nZ\n');
    symlinkSync('../root.tar', join(place, 'root.tar'));
    const script = `
ready() { until docker logs "$1" 2>&1 | grep -q ready; do sleep 0.05; done; }
( set -e; ${before}; ) >before 2>&1
[ $? = 0 ] && { ( ${line} ) >stdout 2>stderr; echo $? >code; }
docker ps -q | xargs -r docker unpause
docker ps -q | xargs -r docker kill
docker ps -aq | xargs -r docker rm -f
umount -q state/root/vfs
`;
    // What podman mounts for later, its runtime needs in the same place, and nobody does afterwards.
    const { stderr } = spawnSync('unshare', ['-m', '--propagation', 'private', 'sh', '-c', script], {
      cwd: place,
      env: { ...process.env, PATH: `${bin}:${process.env.PATH}`, STATE: join(place, 'state'), Z: 'ours' },
      stdio: ['ignore', 'ignore', 'pipe'],
      encoding: 'utf8',
      timeout: 300_000,
    });
    const read = (name: string) => {
      try {
        return readFileSync(join(place, name), 'utf8');
      } catch {
        throw new Error(`${engine.name} did not come to ${line}: ${read('before')}${stderr}`);
      }
    };
    const code = Number(read('code'));
    return { code, stdout: plain(read('stdout')), complains: code !== 0 && read('stderr') !== '' };
  }
}

/** Says when it is ready, and ends well when it is asked to. */
const SERVE = `#!/bin/sh
trap 'exit 3' TERM
echo ready
while :; do sleep 0.05; done
`;

/** Nothing of it is the machine's. */
function podmanConfiguration(folder: string): string {
  return `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
netns = "none"
log_driver = "k8s-file"
init_path = "${folder}/init"
[engine]
events_logger = "file"
lock_type = "file"
tmp_dir = "${folder}/podman.tmp"
`;
}

/** Without what is another thing each time: ids, times, pids; and without what names of images begin with. */
function plain(text: string): string {
  return text
    .replace(/\b(sha256:)?[0-9a-f]{64}\b|\b[0-9a-f]{12}\b/g, 'ID')
    .replace(/(Less than a second|About a minute|\d+ (second|minute)s?) ago/g, 'AGO')
    .replace(/\b(localhost|docker\.io\/library)\//g, '')
    .replace(/[ \t]+/g, ' ')
    .replace(/ $/gm, '');
}
