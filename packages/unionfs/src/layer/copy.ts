import { Fd, O } from '@iso/sys';
import { close, open } from '../file/call.js';
import { readDirectory } from '../file/directory.js';
import { stat } from '../file/stat.js';
import { describe, type Place } from './describe.js';
import { Extractor, type ExtractWarning } from './extract.js';

/**
 * Copies a tree with all that its files have: owners, modes, times, attributes, hard links, devices, holes. Where the file system
 * can share blocks between files (btrfs, xfs), no data is copied.
 *
 * @param from - directory
 * @param to - directory, exists and is empty
 * @param options - `onWarning`: told of what was left out (sockets have no copy)
 * @throws KernelError `ENOSPC`, `EPERM` …
 */
export function copyTree(
  from: string | Fd,
  to: string | Fd,
  options: { onWarning?: (warning: ExtractWarning) => void } = {},
): void {
  const directory = (at: string | Fd) => Fd.open(typeof at === 'string' ? at : `/proc/self/fd/${at.number}`, DIRECTORY);
  using source = directory(from);
  using target = directory(to);
  const { onWarning = () => {} } = options;
  using extractor = new Extractor(target, { unsupported: 'error' }, onWarning);
  const linked = new Map<string, Buffer>();
  const copy = (place: Place, path: Buffer) => {
    const entry = describe(place, path, {});
    if (!entry) return onWarning({ kind: 'device', path, message: 'a socket was left out' });
    const first = place.stat.links > 1 && entry.type !== 'directory' ? linked.get(place.stat.identity) : undefined;
    if (first) return extractor.entry({ ...entry, type: 'link', linkpath: first });
    if (place.stat.links > 1) linked.set(place.stat.identity, path);
    extractor.entry(entry);
    if (entry.type !== 'file') return;
    const content = open(place.directory, place.name, O.RDONLY | O.NONBLOCK);
    try {
      extractor.copy(content);
    } finally {
      close(content);
    }
    extractor.end();
  };
  const inside = (fd: number, prefix: Buffer) => {
    for (const { name } of readDirectory(fd)) {
      const place = { directory: fd, name, stat: stat(fd, name) };
      const path = Buffer.concat([prefix, name]);
      copy(place, path);
      if (place.stat.type !== 'directory') continue;
      const child = open(fd, name, O.RDONLY | O.DIRECTORY);
      try {
        inside(child, Buffer.concat([path, SLASH]));
      } finally {
        close(child);
      }
    }
  };
  copy({ directory: source.number, name: DOT, stat: stat(source.number, DOT) }, DOT);
  inside(source.number, Buffer.alloc(0));
  extractor.finish();
}

const DIRECTORY = { directory: true } as const;
const DOT = Buffer.from('.');
const SLASH = Buffer.from('/');
