import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { command } from './lab.js';

/** What a program said. */
export interface Said {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** For tests: a mount namespace of their own, in which an engine leaves its mounts. */
export class Place {
  /** Podman takes no path of its own that is longer than 50 characters. */
  readonly folder = mkdtempSync('/tmp/iso-test-');
  readonly #holder: ChildProcess;

  constructor() {
    this.#holder = spawn('unshare', ['--mount', '--propagation', 'private', 'sleep', '3600'], { stdio: 'ignore' });
    // It is in its namespace once it is another program.
    execFileSync('sh', ['-c', `until [ "$(cat /proc/${this.#holder.pid}/comm)" = sleep ]; do sleep 0.05; done`]);
  }

  /** A program in it. */
  run(words: readonly string[], { input, timeout = 60_000 }: { input?: string | Buffer; timeout?: number } = {}): Said {
    const [file = '', ...args] = this.inside(words);
    const { status, stdout, stderr } = spawnSync(file, args, {
      encoding: 'utf8',
      timeout,
      ...(input === undefined ? { stdio: ['ignore', 'pipe', 'pipe'] } : { input }),
    });
    return { code: status, stdout, stderr };
  }

  /** What runs a program in it. */
  inside(words: readonly string[]): string[] {
    return ['nsenter', `--mount=/proc/${this.#holder.pid}/ns/mnt`, '--wd=/', '--', ...words];
  }

  /** The command as a program of one word, as engines want it. */
  runtime(): string {
    const path = join(this.folder, 'iso-oci');
    const words = [process.execPath, ...command].map((word) => `'${word}'`);
    writeFileSync(path, `#!/bin/sh\nexec ${words.join(' ')} "$@"\n`);
    chmodSync(path, 0o755);
    return path;
  }

  /** A root with busybox under all of its names. */
  busybox(): string {
    const root = join(this.folder, 'busybox');
    for (const name of ['bin', 'etc', 'tmp', 'proc', 'sys', 'dev', 'root', 'run', 'mnt'])
      mkdirSync(join(root, name), { recursive: true });
    chmodSync(join(root, 'tmp'), 0o1777);
    execFileSync('cp', ['/bin/busybox', join(root, 'bin')]);
    for (const name of execFileSync('/bin/busybox', ['--list'], { encoding: 'utf8' }).trim().split('\n'))
      if (name !== 'busybox') symlinkSync('busybox', join(root, 'bin', name));
    writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n');
    writeFileSync(join(root, 'etc/group'), 'root:x:0:\nnogroup:x:65534:\n');
    writeFileSync(join(root, 'bin/not-executable'), 'no program\n', { mode: 0o644 });
    return root;
  }

  close(): void {
    this.#holder.kill('SIGKILL');
    rmSync(this.folder, { recursive: true, force: true });
  }
}
