import { AT, invalid, type LaunchProgram, O, RESOLVE, StringArray } from '@iso/sys';

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Errors after which execvp(3) looks on. */
const missing = ['ENOENT', 'ENOTDIR', 'EACCES', 'ESTALE', 'ENODEV', 'ETIMEDOUT'];
const hints = {
  ENOENT: 'it is not there, or the interpreter that it names is not',
  EACCES: 'it is not executable for this user, is no regular file, or lies on a mount with noexec',
  ENOEXEC: 'it is neither a program for this machine nor a script with a #! line',
  E2BIG: 'arguments and environment take more than a quarter of the stack limit, or one of them more than 32 pages',
  ETXTBSY: 'somebody has it open for writing',
  EAGAIN: 'its user has more processes than RLIMIT_NPROC allows',
};

/** A program to execute. */
export interface Executable {
  file: string;
  argv: readonly string[];
  env: readonly string[];
}

/**
 * The last steps of a launch: execve of a path, or of each candidate in the child's own `PATH`, looked up inside its
 * own root. Under a root of its own, no candidate may lead through a magic link such as /proc/self/exe, which would be
 * this process's executable (CVE-2019-5736).
 *
 * @param program - the launch
 * @param executable - file, arguments, environment
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for an empty file
 */
export function execute(program: LaunchProgram, { file, argv, env }: Executable): void {
  if (file === '') throw invalid('the file to execute is the empty string');
  const candidates = file.includes('/') ? [file] : search(file, env);
  const args = new StringArray(argv);
  const variables = new StringArray(env);
  for (const [i, path] of candidates.entries()) {
    const last = i === candidates.length - 1;
    const ignore = last ? {} : { ignore: missing };
    if (program.hasOwnRoot) {
      const how = Buffer.alloc(24);
      how.writeUInt32LE(O.PATH | O.CLOEXEC, 0);
      how.writeUInt32LE(RESOLVE.NO_MAGICLINKS, 16);
      program.step('exec', 'openat2', [AT.FDCWD, path, how, how.length], {
        text: `openat2(AT_FDCWD, ${JSON.stringify(path)}, O_PATH, RESOLVE_NO_MAGICLINKS)`,
        ignore: [...missing, 'ENOSYS'],
        hint: 'the file to execute is reached through a magic link of /proc',
      });
    }
    program.step('exec', 'execve', [path, args, variables], {
      ...ignore,
      hint: file.includes('/') ? hints : { ...hints, ENOENT: 'no directory of PATH has it' },
      text:
        last && candidates.length > 1 ? `execve(${JSON.stringify(file)} in PATH)` : executeText(path, argv, env.length),
    });
  }
}

const MOST_ARGUMENTS = 6;
const MOST_CHARACTERS = 80;

/** The call, without the values of the environment: where errors are logged, its secrets have no business. */
function executeText(path: string, argv: readonly string[], variables: number): string {
  const short = (text: string) => (text.length > MOST_CHARACTERS ? `${text.slice(0, MOST_CHARACTERS - 3)}...` : text);
  const args = argv.slice(0, MOST_ARGUMENTS).map((arg) => JSON.stringify(short(arg)));
  const more = argv.length > MOST_ARGUMENTS ? [`... ${argv.length}`] : [];
  return `execve(${JSON.stringify(short(path))}, [${[...args, ...more].join(', ')}], ${variables} variables)`;
}

function search(file: string, env: readonly string[]): string[] {
  const path = env.find((variable) => variable.startsWith('PATH='))?.slice(5) ?? DEFAULT_PATH;
  // An empty member means the working directory, as in execvp(3).
  return [...new Set(path.split(':').map((folder) => `${folder === '' ? '.' : folder}/${file}`))];
}

/**
 * Makes a directory of the child's root its working directory.
 *
 * @param program - the launch
 * @param cwd - path as the child sees it
 */
export function changeDirectory(program: LaunchProgram, cwd: string): void {
  if (!program.hasOwnRoot) {
    program.step('cwd', 'chdir', [cwd], { hint: 'the working directory must be a directory that the child may enter' });
    return;
  }
  const how = Buffer.alloc(24);
  how.writeUInt32LE(O.PATH | O.DIRECTORY | O.CLOEXEC, 0);
  how.writeUInt32LE(RESOLVE.NO_MAGICLINKS, 16);
  const directory = program.step('cwd', 'openat2', [AT.FDCWD, cwd, how, how.length], {
    text: `openat2(AT_FDCWD, ${JSON.stringify(cwd)}, O_PATH|O_DIRECTORY, RESOLVE_NO_MAGICLINKS)`,
    hint: 'the working directory must be a directory inside the root, not reached through /proc/*/fd, cwd or root',
  });
  program.step('cwd', 'fchdir', [directory]);
}
