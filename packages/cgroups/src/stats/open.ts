import type { CgroupDirectory } from '../raw/directory.js';
import { StatFile } from './file.js';

/** Opens control files of one directory, and closes them together. */
export class StatFiles {
  readonly #files = new Map<string, StatFile>();
  readonly #directory: CgroupDirectory;

  constructor(directory: CgroupDirectory) {
    this.#directory = directory;
  }

  /** The version of its hierarchy. */
  get version(): 1 | 2 {
    return this.#directory.version;
  }

  /** A control file; the same object for the same name. */
  file(name: string): StatFile {
    let file = this.#files.get(name);
    if (!file) this.#files.set(name, (file = new StatFile(this.#directory, name)));
    return file;
  }

  /** Names of control files that are there. */
  names(): string[] {
    return this.#directory.files();
  }

  /** Closes all. */
  close(): void {
    for (const file of this.#files.values()) file.close();
    this.#files.clear();
  }
}
