import { invalid } from '@iso/sys';
import { familyOf } from '../ip/ip.js';
import { changeFile } from './system-file.js';

/** By which its lines are known; hosts(5) reads nothing behind a number sign. */
const MARK = '# iso';

/** Names of an address. */
export interface HostEntry {
  address: string;
  names: readonly string[];
}

/**
 * Lines of a hosts(5) file, which keep to themselves: those of others stay as they are, wherever they stand. It is changed in place.
 *
 * @example
 * ```ts
 * import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
 * import { HostsFile } from '@iso/netns/network';
 * const directory = mkdtempSync('/tmp/hosts-');
 * const path = `${directory}/hosts`;
 * writeFileSync(path, '127.0.0.1 localhost\n');
 * const hosts = new HostsFile(path);
 * hosts.write([{ address: '10.50.0.2', names: ['web', 'web.app'] }]);
 * if (readFileSync(path, 'utf8') !== '127.0.0.1 localhost\n10.50.0.2\tweb web.app\t# iso\n') throw new Error('other lines');
 * rmSync(directory, { recursive: true });
 * ```
 */
export class HostsFile {
  readonly #path: string;

  /**
   * @param path - of the file; it is made when it is written
   */
  constructor(path: string) {
    this.#path = path;
  }

  /**
   * Writes its lines in the place of those that it wrote before.
   *
   * @param entries - one line each
   * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what is no address, or no name: before anything is written
   */
  write(entries: readonly HostEntry[]): void {
    const lines = entries.map(({ address, names }) => {
      familyOf(address);
      for (const name of names) checkName(name);
      if (names.length === 0) throw invalid(`no name for ${address}`);
      return `${address}\t${names.join(' ')}\t${MARK}\n`;
    });
    changeFile(this.#path, (text) => {
      const others = text.split('\n').filter((line) => !line.endsWith(`\t${MARK}`));
      const kept = others.join('\n');
      return `${kept}${kept === '' || kept.endsWith('\n') ? '' : '\n'}${lines.join('')}`;
    });
  }
}

/** Names are written into files that others read line by line, and into answers of name servers, whose labels have 63 bytes. */
export function checkName(name: string): void {
  const labels = name.split('.');
  if (!/^[^\s#\0]+$/.test(name) || name.length > 253 || labels.some((label) => label === '' || label.length > 63))
    throw invalid(`not a name of a host: ${JSON.stringify(name)}`);
}
