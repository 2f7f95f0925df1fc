import { invalid, type LaunchProgram } from '@iso/sys';

/** Names of a host, see uts_namespaces(7). */
export interface HostNames {
  /** Host name, 64 bytes at the most. */
  hostname?: string;
  /** NIS domain name, 64 bytes at the most. */
  domainname?: string;
}

const MAX_BYTES = 64;

/**
 * Adds the steps that name a host.
 *
 * @param program - the launch
 * @param names - to set
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for names that are too long
 */
export function setNames(program: LaunchProgram, names: HostNames): void {
  for (const [call, name] of [
    ['sethostname', names.hostname],
    ['setdomainname', names.domainname],
  ] as const) {
    if (name === undefined) continue;
    const length = Buffer.byteLength(name);
    if (length > MAX_BYTES) throw invalid(`a host or domain name has ${MAX_BYTES} bytes at the most, not ${length}`);
    program.step('host', call, [name, length]);
  }
}
