import type { CgroupDirectory } from '../raw/directory.js';
import { StatFile } from './file.js';

/** Opens control files of one directory, and closes them together. */
export class StatFiles {
  readonly #files = new Map<string, StatFile>();
  readonly #directory: CgroupDirectory;
  readonly #seen: Set<StatFile>;

  /**
   * @param directory - where they are
   * @param seen - is told of those that are read and stay open
   */
  constructor(directory: CgroupDirectory, seen: Set<StatFile>) {
    this.#directory = directory;
    this.#seen = seen;
  }

  /** The version of its hierarchy. */
  get version(): 1 | 2 {
    return this.#directory.version;
  }

  /** A control file; the same object for the same name. */
  file(name: string): StatFile {
    let file = this.#files.get(name);
    if (!file) this.#files.set(name, (file = new StatFile(this.#directory, name, this.#seen)));
    return file;
  }

  /** Names of control files that are there. */
  names(): string[] {
    return this.#directory.files();
  }

  /** Drops texts that nobody asked for. */
  forget(): void {
    for (const file of this.#files.values()) file.forget();
  }

  /** Closes all. */
  close(): void {
    for (const file of this.#files.values()) file.close();
    this.#files.clear();
  }
}
