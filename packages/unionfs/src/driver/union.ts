import { mkdirSync, readFileSync } from 'node:fs';
import { Fd } from '@iso/sys';
import { adoptDirectories, ROOT } from '../diff/adopt.js';
import { checkArgument } from '../file/argument.js';
import type { WhiteoutFormat } from '../layer/whiteout.js';
import type { Driver } from './driver.js';
import { Layers } from './layers.js';

/** How the drivers of unions keep layers. */
export interface UnionOptions {
  /** Marks are `user.*` attributes, the default in a user namespace, where no others can be written (Linux 5.11). */
  userxattr?: boolean;
}

const DIFF = 'diff';
const WORK = 'work';

/** What the drivers of unions have in common: a layer is a directory with what it changes, beside it the union's own. */
export class UnionLayers {
  readonly format: WhiteoutFormat;
  readonly #layers: Layers;

  /**
   * @param root - directory of the layers
   * @param format - how layers mark what is gone
   */
  constructor(root: string | Fd, format: WhiteoutFormat) {
    checkArgument('root', root, 'a path or an open directory');
    this.format = format;
    this.#layers = new Layers(
      Fd.open(typeof root === 'string' ? root : `/proc/self/fd/${root.number}`, { directory: true }),
    );
  }

  /** The writable directory of a layer. */
  readonly directory = (id: string): string => this.#layers.path(id, DIFF);

  /** What the union needs beside it. */
  work(id: string): string {
    return this.#layers.path(id, WORK);
  }

  /** What is the same for all of them. */
  common(): Pick<Driver, 'format' | 'directory' | 'create' | 'diff' | 'remove'> &
    Required<Pick<Driver, 'adopt'>> &
    Disposable {
    const { directory, format } = this;
    const stacked = (id: string, parents: readonly string[]) => ({
      upper: directory(id),
      lowers: parents.map(directory),
      format,
    });
    return {
      format,
      directory,
      create: (id, [parent]) => {
        this.#layers.create(id, () => {
          mkdirSync(directory(id), { mode: 0o755 });
          mkdirSync(this.work(id), { mode: 0o700 });
          // A union's root shows the attributes of its uppermost layer.
          if (parent) adoptDirectories(stacked(id, [parent]), [ROOT]);
        });
      },
      adopt: (id, parents, directories) => adoptDirectories(stacked(id, parents), directories),
      diff: stacked,
      remove: (id) => this.#layers.remove(id),
      [Symbol.dispose]: () => this.#layers.root.close(),
    };
  }
}

/** Whether trusted.* attributes are out of reach. */
export function inUserNamespace(): boolean {
  return !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'latin1'));
}
