import { readFileSync } from 'node:fs';

/** One mount, as /proc/PID/mountinfo shows it; see proc_pid_mountinfo(5). */
export interface Mount {
  id: number;
  parentId: number;
  /** `major:minor` of the file system. */
  device: string;
  /** Path in the file system that is mounted. */
  root: string;
  /** Where it is mounted. */
  target: string;
  options: string[];
  /** For example `shared:1`, `master:2`; empty for a private mount. */
  propagation: string[];
  type: string;
  source: string;
  superOptions: string[];
}

/**
 * The mount table that a process sees.
 *
 * @param options - `pid`, default this process
 * @returns mounts in the kernel's order
 * @throws Node's `ENOENT` where there is no such process, `EACCES` where it may not be looked at
 *
 * @example
 * ```ts
 * import { mountTable } from '@iso/mounts';
 * if (!mountTable().some((mount) => mount.target === '/proc')) throw new Error('no /proc');
 * ```
 */
export function mountTable(options: { pid?: number } = {}): Mount[] {
  return parseMountInfo(readFileSync(`/proc/${options.pid ?? 'self'}/mountinfo`, 'utf8'));
}

/**
 * Parses the text of a mountinfo file.
 *
 * @param text - its content
 * @returns mounts in the same order
 */
export function parseMountInfo(text: string): Mount[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const fields = line.split(' ');
      const dash = fields.indexOf('-', 6);
      const field = (i: number) => decode(fields[i] ?? '');
      return {
        id: Number(fields[0]),
        parentId: Number(fields[1]),
        device: field(2),
        root: field(3),
        target: field(4),
        options: field(5).split(','),
        propagation: fields.slice(6, dash),
        type: field(dash + 1),
        source: field(dash + 2),
        superOptions: field(dash + 3).split(','),
      };
    });
}

/** Space, tab, newline and backslash stand as three octal digits. */
function decode(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
