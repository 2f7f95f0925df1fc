import { invalid, KernelError, type LaunchProgram, O, type Output, openHow, RESOLVE, type Slot } from '@iso/sys';
import { PROC_SUPER_MAGIC } from './raw/flags.js';

const S_IFREG = 0o100000;
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
  if (Buffer.byteLength(path) > PATH_MAX) {
    const shown = `${path.slice(0, 40)}…`;
    throw new KernelError(ENAMETOOLONG, {
      syscall: 'openat2',
      path: shown,
      call: `openat2(root, ${JSON.stringify(shown)})`,
    });
  }
  return parts;
}

const PATH_MAX = 4095;
const ENAMETOOLONG = 36;

/** Files of proc over which others are mounted to say something about the container alone, as lxcfs does. */
const procFiles = ['cpuinfo', 'diskstats', 'loadavg', 'meminfo', 'slabinfo', 'stat', 'swaps', 'uptime', 'version'];

/** Whether a path is one of the files of proc that may be mounted over; refuses the rest of it. */
function isProcFile(parts: readonly string[]): boolean {
  if (parts[0] !== 'proc' || parts.length === 1) return false;
  if (parts.length === 2 && procFiles.includes(parts[1] as string)) return true;
  throw invalid(
    `no target of a mount: ${JSON.stringify(`/${parts.join('/')}`)}; under /proc these are: ${procFiles.join(', ')}`,
  );
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
  return openParts(program, root, components(path), options);
}

function openParts(
  program: LaunchProgram,
  root: Slot,
  parts: readonly string[],
  {
    directory = false,
    literal = false,
    hint,
  }: { directory?: boolean; literal?: boolean; hint?: string | undefined } = {},
): Slot {
  const flags = O.PATH | O.CLOEXEC | (directory ? O.DIRECTORY : 0);
  const how = openHow(flags, IN_ROOT | (literal ? RESOLVE.NO_SYMLINKS : 0));
  const relative = parts.join('/');
  return program.step('mount', 'openat2', [root, relative, how, how.length], {
    text: () => `openat2(root, ${JSON.stringify(relative)}, O_PATH${directory ? '|O_DIRECTORY' : ''}, RESOLVE_IN_ROOT)`,
    retry: RACED,
    ...(hint ? { hint } : {}),
  });
}

/** The kernel looked away: something was renamed meanwhile. */
const RACED = { on: ['EAGAIN'], times: 100 };

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
      const parent = i === 0 ? root : openParts(program, root, parts.slice(0, i), { directory: true });
      if (directory || i < parts.length - 1)
        program.step('mount', 'mkdirat', [parent, name, 0o755], { ignore: ['EEXIST'] });
      else {
        // Not by open: a descriptor to write with would keep the root from becoming read-only.
        program.step('mount', 'mknodat', [parent, name, S_IFREG | 0o644, 0], { ignore: ['EEXIST'] });
      }
    }
  };
  const procFile = isProcFile(parts);
  if (!procFile) program.attempt('mount', ['ENOENT'], () => void openParts(program, root, parts), { onError: create });
  const { literal, hint } = options;
  const target = openParts(program, root, parts, { directory, literal: literal ?? false, hint });
  // Without links, what the path says is where it leads; and the root of proc itself may be what another replaces.
  if (!procFile && !literal && path !== '/proc') refuseProc(program, target, path);
  return target;
}

/**
 * A link of the root may lead a target into proc, where a mount would stand between the kernel and who asks it. The child
 * compares the type of the file system by a futex, which waits only while a word in memory has a value: no time at all.
 */
function refuseProc(program: LaunchProgram, target: Slot, path: string): void {
  let statfs = judgements.get(program);
  if (!statfs) judgements.set(program, (statfs = program.output(STATFS_SIZE)));
  program.step('mount', 'fstatfs', [target, statfs]);
  program.step('mount', 'futex', [statfs, FUTEX_WAIT_PRIVATE, PROC_SUPER_MAGIC, noTime], {
    ignore: ['EAGAIN'],
    text: () => `fstatfs(${JSON.stringify(path)}).f_type != PROC_SUPER_MAGIC`,
    hint: `${path} leads into proc, over which nothing is mounted`,
  });
}

/** What fstatfs says, one target after the other. */
const judgements = new WeakMap<LaunchProgram, Output>();
const noTime = new Uint8Array(16);
const STATFS_SIZE = 120;
const FUTEX_WAIT_PRIVATE = 128;
