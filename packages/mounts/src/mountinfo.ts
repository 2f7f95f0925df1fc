/** One mount, in the terms of /proc/PID/mountinfo; see proc_pid_mountinfo(5). */
export interface Mount {
  /** As in mountinfo; used again after an unmount. */
  id: number;
  /** Never used again while the machine runs; where the kernel has statmount(2) (Linux 6.8). */
  uniqueId?: bigint;
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

/** Space, tab, newline and backslash stand as three octal digits; what is no UTF-8 is read as U+FFFD. */
export function decode(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
