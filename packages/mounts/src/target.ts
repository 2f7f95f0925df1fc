import { invalid, type LaunchProgram, O, RESOLVE, type Slot } from '@iso/sys';
import { openHow } from './raw/structs.js';

const IN_ROOT = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS;

/**
 * A path inside a root, as the components below it.
 *
 * @param path - absolute, as the container sees it
 * @returns its components; `..` is refused, not resolved
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for relative paths, `..`, NUL and the root itself
 */
export function components(path: string): string[] {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (!path.startsWith('/') || parts.includes('..') || path.includes('\0')) {
    throw invalid(`not an absolute path without ..: ${JSON.stringify(path)}`);
  }
  if (parts.length === 0) throw invalid('the root itself cannot be a mount target');
  return parts;
}

/**
 * Opens a path inside a root, following symbolic links as a process with that root would.
 *
 * @param program - the launch
 * @param root - the root's descriptor in the child
 * @param path - absolute, as the container sees it
 * @param options - `directory`: must be one; `literal`: no symbolic link at all
 * @returns slot of an O_PATH descriptor
 */
export function openInside(
  program: LaunchProgram,
  root: Slot,
  path: string,
  options: { directory?: boolean; literal?: boolean; hint?: string } = {},
): Slot {
  const flags = O.PATH | O.CLOEXEC | (options.directory ? O.DIRECTORY : 0);
  const how = openHow(flags, IN_ROOT | (options.literal ? RESOLVE.NO_SYMLINKS : 0));
  const relative = components(path).join('/');
  return program.step('mount', 'openat2', [root, relative, how, how.length], {
    text: `openat2(root, ${JSON.stringify(relative)}, O_PATH${options.directory ? '|O_DIRECTORY' : ''}, RESOLVE_IN_ROOT)`,
    retry: { on: ['EAGAIN'], times: 100 },
    ...(options.hint ? { hint: options.hint } : {}),
  });
}

/**
 * Opens a mount target and creates what is missing of it: directories, and a file at its end. Each component is made
 * below a descriptor that was resolved inside the root, so no symbolic link leads a creation outside.
 *
 * @param program - the launch
 * @param root - the root's descriptor in the child
 * @param path - absolute, as the container sees it
 * @param options - `kind` of the last component; `literal` refuses symbolic links
 * @returns slot of an O_PATH descriptor
 */
export function openTarget(
  program: LaunchProgram,
  root: Slot,
  path: string,
  options: { kind: 'directory' | 'file'; literal?: boolean; hint?: string },
): Slot {
  const parts = components(path);
  const directory = options.kind === 'directory';
  const create = () => {
    for (const [i, name] of parts.entries()) {
      const parent = i === 0 ? root : openInside(program, root, `/${parts.slice(0, i).join('/')}`, { directory: true });
      if (directory || i < parts.length - 1)
        program.step('mount', 'mkdirat', [parent, name, 0o755], { ignore: ['EEXIST'] });
      else {
        program.step('mount', 'openat', [parent, name, O.CREAT | O.EXCL | O.WRONLY | O.NOFOLLOW | O.CLOEXEC, 0o644], {
          ignore: ['EEXIST'],
        });
      }
    }
  };
  program.attempt('mount', ['ENOENT'], () => void openInside(program, root, path), { onError: create });
  const { literal, hint } = options;
  return openInside(program, root, path, { directory, ...(literal ? { literal } : {}), ...(hint ? { hint } : {}) });
}
