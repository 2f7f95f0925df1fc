import { invalid } from '@iso/sys';
import { familyOf } from '../ip/ip.js';
import { checkName } from './hosts-file.js';
import { changeFile } from './system-file.js';

const BEGIN = '# iso: begin';
const END = '# iso: end';

/** How names are looked up, resolv.conf(5). */
export interface ResolvConf {
  /** Addresses of name servers; the C library asks three at the most. */
  servers: readonly string[];
  /** Domains to search. */
  search?: readonly string[];
  /** `ndots:0` and the like. */
  options?: readonly string[];
}

/**
 * Lines of a resolv.conf(5) file, before those of others, so that they count first. Where somebody took them out, the file is that
 * one's, and is left alone. It is changed in place.
 *
 * @example
 * ```ts
 * import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
 * import { ResolvFile } from '@iso/netns/network';
 * const directory = mkdtempSync('/tmp/resolv-');
 * const path = `${directory}/resolv.conf`;
 * new ResolvFile(path).write({ servers: ['127.0.0.11'], search: ['example'] });
 * if (!readFileSync(path, 'utf8').includes('nameserver 127.0.0.11\nsearch example\n')) throw new Error('not written');
 * rmSync(directory, { recursive: true });
 * ```
 */
export class ResolvFile {
  readonly #path: string;
  #written = false;

  /**
   * @param path - of the file; it is made when it is written
   */
  constructor(path: string) {
    this.#path = path;
  }

  /**
   * Writes its lines in the place of those that it wrote before.
   *
   * @param conf - servers, domains, options; undefined takes its lines out
   * @returns whether they stand there now; false where somebody else changed the file
   * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what is no address, or holds a space: before anything is written
   */
  write(conf: ResolvConf | undefined): boolean {
    const block = conf ? `${BEGIN}\n${resolvText(conf)}${END}\n` : '';
    let ours = true;
    changeFile(this.#path, (text) => {
      const from = text.indexOf(`${BEGIN}\n`);
      const to = text.indexOf(`${END}\n`, from);
      if (from >= 0 && to > from) return `${text.slice(0, from)}${block}${text.slice(to + END.length + 1)}`;
      ours = !this.#written;
      return ours ? block + text : text;
    });
    this.#written = ours && conf !== undefined;
    return ours;
  }
}

/**
 * The text of a resolv.conf(5).
 *
 * @param conf - what it says
 * @returns lines
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function resolvText({ servers, search = [], options = [] }: ResolvConf): string {
  for (const server of servers) familyOf(server);
  for (const domain of search) checkName(domain);
  for (const option of options)
    if (!/^[^\s#;]+$/.test(option)) throw invalid(`not an option of resolv.conf: ${JSON.stringify(option)}`);
  const lines = servers.map((server) => `nameserver ${server}`);
  if (search.length) lines.push(`search ${search.join(' ')}`);
  if (options.length) lines.push(`options ${options.join(' ')}`);
  return lines.map((line) => `${line}\n`).join('');
}

/**
 * What a resolv.conf(5) says. Of servers on the loopback, systemd-resolved's for one, a container has nothing: a `NameServer` in it that
 * forwards asks them from the host.
 *
 * @param text - of the file
 * @returns servers that are addresses, the last search list, all options
 */
export function readResolvConf(text: string): Required<ResolvConf> {
  const conf = { servers: [] as string[], search: [] as string[], options: [] as string[] };
  for (const line of text.split('\n')) {
    const [word, ...values] = line
      .replace(/[#;].*$/, '')
      .trim()
      .split(/\s+/) as [string, ...string[]];
    if (word === 'nameserver') conf.servers.push(...values.slice(0, 1).filter(isAddress));
    else if (word === 'search' || word === 'domain') conf.search = values;
    else if (word === 'options') conf.options.push(...values);
  }
  return conf;
}

function isAddress(text: string): boolean {
  try {
    return familyOf(text) > 0;
  } catch {
    return false;
  }
}
