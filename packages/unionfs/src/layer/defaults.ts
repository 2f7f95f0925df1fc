import { readFileSync } from 'node:fs';
import { stat } from '../file/stat.js';
import type { TarEntry } from '../tar/entry.js';

/**
 * What new files get without being told: the owner of this process and the mode that its umask leaves. The first file shows
 * whether the file system does so; some (squashing network file systems, id-mapped mounts) do not.
 */
export class Defaults {
  readonly #uid = process.geteuid?.() ?? -1;
  readonly #gid = process.getegid?.() ?? -1;
  readonly #umask = readUmask();
  #trusted: boolean | undefined;

  /** The mode to create a file with: all but what must wait until the owner is set. */
  modeFor(entry: TarEntry): number {
    return entry.mode & 0o777;
  }

  /**
   * What a file has that was just made.
   *
   * @param fd - the file
   * @param gid - group of its directory, or -1
   * @returns its owner and what its mode lacks, or undefined where that is not known
   */
  of(fd: number, gid: number): { uid: number; gid: number; umask: number } | undefined {
    if (gid !== this.#gid) return undefined;
    if (this.#trusted === undefined) {
      const made = stat(fd, null);
      this.#trusted = made.uid === this.#uid && made.gid === this.#gid && (made.mode & this.#umask) === 0;
    }
    return this.#trusted ? { uid: this.#uid, gid: this.#gid, umask: this.#umask } : undefined;
  }
}

function readUmask(): number {
  const digits = /^Umask:\s*([0-7]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1];
  return digits === undefined ? 0o7777 : Number.parseInt(digits, 8);
}
