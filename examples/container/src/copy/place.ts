import { fstatSync, readlinkSync } from 'node:fs';
import { basename, posix, resolve } from 'node:path';
import { attempt, Fd, KernelError, O, openHow, RESOLVE } from '@iso/sys';
import { UsageError } from '../options.js';

/** One end of a copy: a path in a root, which is a container's or our own. */
export interface Place {
  root: Fd;
  /** Absolute. A slash at its end means a directory, and `/.` what is in it. */
  path: string;
  /** As it was typed. */
  text: string;
}

/** Where a copy goes: a name in a directory. */
export interface Target {
  directory: Fd;
  /** `.` for what is in the source, into the directory itself. */
  name: string;
}

const ENOENT = -2;

/**
 * Splits docker's `CONTAINER:PATH`.
 *
 * @param text - as typed
 * @returns the container, none for a path of our own, and the path
 */
export function splitPlace(text: string): { container?: string; path: string } {
  if (text === '') throw new UsageError('a path is empty');
  const [container, path] = text.split(/:(.*)/s);
  // A path with a colon begins with a slash or a dot.
  if (path === undefined || /^[./]/.test(text)) return { path: text };
  if (!container || !path) throw new UsageError(`not CONTAINER:PATH: ${JSON.stringify(text)}`);
  return { container, path };
}

/** Makes a path absolute, and keeps what its end says. */
export function absolute(path: string, container: boolean): string {
  const end = /(^|\/)\.$/.test(path) ? '/.' : path.endsWith('/') ? '/' : '';
  const whole = container ? posix.normalize(`/${path}`) : resolve(path);
  return `${whole.replace(/\/+$/, '')}${end}` || '/';
}

/** What is at a place; undefined where nothing is. */
function look(place: Place, path: string, follow: boolean): { fd: Fd; directory: boolean } | undefined {
  const how = openHow(O.PATH | O.CLOEXEC | (follow ? 0 : O.NOFOLLOW), RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS);
  const opened = attempt('openat2', place.root, path, how, how.length);
  if (opened === ENOENT) return undefined;
  if (opened < 0) throw new KernelError(opened, { syscall: 'openat2', path: place.text });
  const fd = Fd.own(opened);
  return { fd, directory: fstatSync(fd.number).isDirectory() };
}

/** Whether a source is a directory. */
export function isDirectory(place: Place, follow: boolean): boolean {
  const found = look(place, place.path, follow || /\/\.?$/.test(place.path));
  if (!found) throw new UsageError(`${place.text} is not there`);
  using _ = found.fd;
  return found.directory;
}

/**
 * Finds where a copy goes, by docker's rules.
 *
 * @param to - as it was asked for
 * @param source - its path, and whether it is a directory; none for an archive, which goes into a directory
 * @returns directory and name; dispose the directory
 * @throws {@link UsageError} where something else is there, or the directory above is not
 */
export function findTarget(to: Place, source?: { path: string; directory: boolean }): Target {
  const there = look(to, to.path.replace(/\/\.?$/, '') || '/', true);
  if (there?.directory) {
    const inside = !source || (source.directory && /(\/\.|^\/)$/.test(source.path));
    return { directory: there.fd, name: inside ? '.' : basename(posix.normalize(source.path)) };
  }
  there?.fd.close();
  const slash = /\/\.?$/.test(to.path);
  if (!source) throw new UsageError(`${to.text} is no directory`);
  if (source.directory && there) throw new UsageError(`${to.text} is no directory: one cannot be copied there`);
  if (slash && (there || !source.directory)) throw new UsageError(`${to.text} is no directory`);
  const path = there ? realPath(to) : posix.normalize(to.path).replace(/\/\.?$/, '');
  const above = look(to, posix.dirname(path), true);
  if (!above?.directory) {
    above?.fd.close();
    throw new UsageError(`there is no directory for ${to.text}`);
  }
  return { directory: above.fd, name: basename(path) };
}

/** A file is replaced where it is, not the symbolic link that leads to it. */
function realPath(to: Place): string {
  const found = look(to, to.path, true);
  if (!found) throw new UsageError(`${to.text} is gone`);
  using fd = found.fd;
  const of = (each: Fd) => readlinkSync(`/proc/self/fd/${each.number}`);
  const above = of(to.root);
  return `/${of(fd).slice(above === '/' ? 1 : above.length + 1)}`;
}
