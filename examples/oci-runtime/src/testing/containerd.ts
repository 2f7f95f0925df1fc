import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, openSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Place, Said } from './place.js';

/** For tests: a containerd of their own, whose `ctr` runs containers on this runtime. */
export class Containerd {
  readonly #place: Place;
  readonly #runtime: string;
  readonly #daemon: ChildProcess;
  readonly #listener: ChildProcess;
  readonly #events: string;
  readonly #address: string;

  constructor(place: Place) {
    this.#place = place;
    this.#runtime = place.runtime();
    this.#events = join(place.folder, 'events');
    this.#address = join(place.folder, 'containerd.sock');
    // Its shims keep their sockets in /run/containerd, wherever containerd itself is.
    place.run(['mount', '-t', 'tmpfs', 'tmpfs', '/run']);
    const settings = join(place.folder, 'containerd.toml');
    writeFileSync(
      settings,
      `version = 2
root = "${join(place.folder, 'root')}"
state = "${join(place.folder, 'state')}"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = "${this.#address}"
`,
    );
    // Where ids are mapped, ctr forgets which runtime it was told to use.
    const first = join(place.folder, 'bin');
    mkdirSync(first);
    symlinkSync(this.#runtime, join(first, 'runc'));
    const path = `PATH=${first}:${process.env.PATH}`;
    const words = place.inside(['env', path, 'containerd', '--config', settings, '--log-level', 'warn']);
    this.#daemon = spawn(words[0] as string, words.slice(1), { stdio: 'ignore' });
    execFileSync('sh', ['-c', `until [ -S ${this.#address} ]; do sleep 0.1; done`], { timeout: 30_000 });
    const listen = place.inside(['ctr', '--address', this.#address, 'events']);
    this.#listener = spawn(listen[0] as string, listen.slice(1), {
      stdio: ['ignore', openSync(this.#events, 'w'), 'ignore'],
    });
  }

  /** A command of ctr's. */
  ctr(words: readonly string[], options: { input?: string } = {}): Said {
    return this.#place.run(['ctr', '--address', this.#address, ...words], options);
  }

  /** `ctr run`, in a cgroup of this test. */
  run(words: readonly string[], options: { input?: string } = {}): Said {
    return this.ctr([...this.#running, ...words], options);
  }

  /** With a terminal around it. */
  typed(words: readonly string[], input: string): Said {
    const all = ['ctr', '--address', this.#address, ...this.#running, ...words];
    const quoted = all.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
    return this.#place.run(['script', '-qec', quoted, '/dev/null'], { input });
  }

  /** What it has told of: `/tasks/exit {"container_id":"box",…}`, a line each. */
  get events(): string {
    return readFileSync(this.#events, 'utf8');
  }

  get #running(): string[] {
    return ['run', '--runc-binary', this.#runtime];
  }

  /** Ends it, once its containers are gone. */
  close(): void {
    this.#listener.kill('SIGKILL');
    this.#daemon.kill('SIGTERM');
    execFileSync('sh', ['-c', `while [ -e /proc/${this.#daemon.pid}/exe ]; do sleep 0.05; done`], { timeout: 30_000 });
    if (existsSync(this.#address)) throw new Error('containerd has left its socket');
  }
}
