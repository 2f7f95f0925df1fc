import { AT, type Fd, invalid, type LaunchProgram, O, openHow, RESOLVE, StringArray } from '@iso/sys';

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
  const candidates = candidatesOf(file, env);
  const args = new StringArray(argv);
  const variables = new StringArray(env);
  for (const [i, path] of candidates.entries()) {
    const last = i === candidates.length - 1;
    const ignore = last ? {} : { ignore: missing };
    refuseMagicLinks(program, path);
    program.step('exec', 'execve', [path, args, variables], {
      ...ignore,
      hint: hintsFor(file),
      text:
        last && candidates.length > 1 ? `execve(${JSON.stringify(file)} in PATH)` : executeText(path, argv, env.length),
    });
  }
}

function refuseMagicLinks(program: LaunchProgram, path: string): void {
  if (!program.hasOwnRoot) return;
  const how = openHow(O.PATH | O.CLOEXEC, RESOLVE.NO_MAGICLINKS);
  program.step('exec', 'openat2', [AT.FDCWD, path, how, how.length], {
    text: `openat2(AT_FDCWD, ${JSON.stringify(path)}, O_PATH, RESOLVE_NO_MAGICLINKS)`,
    ignore: [...missing, 'ENOSYS'],
    hint: 'the file to execute is reached through a magic link of /proc',
  });
}

const X_OK = 1;

/**
 * The last steps of a launch that is held back: the gate is executed in the program's place, and told where to look for that.
 *
 * @param gate - its image, open in the child
 * @param looks - finds at once whether there is anything to execute, in the child's own root
 * @returns as {@link execute}
 */
export function executeBehind(gate: Fd, looks: boolean): typeof execute {
  return (program, { file, argv, env }) => {
    const candidates = candidatesOf(file, env);
    const find = (i: number) => {
      const path = candidates[i] as string;
      const look = () => void program.step('cwd', 'faccessat', [AT.FDCWD, path, X_OK], { hint: hintsFor(file) });
      if (i === candidates.length - 1) look();
      else program.attempt('cwd', missing, look, { onError: () => find(i + 1) });
    };
    if (looks) find(0);
    for (const path of candidates) refuseMagicLinks(program, path);
    program.step(
      'exec',
      'execveat',
      [gate, '', new StringArray([...candidates, '', ...argv]), new StringArray(env), AT.EMPTY_PATH],
      { text: `execveat(gate of ${JSON.stringify(file)})` },
    );
  };
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

/**
 * What an error of an execve means.
 *
 * @param file - that was to be executed
 * @returns a hint by the error's name
 */
export function hintsFor(file: string): Record<string, string> {
  return file.includes('/') ? hints : { ...hints, ENOENT: 'no directory of PATH has it' };
}

function candidatesOf(file: string, env: readonly string[]): string[] {
  if (file === '') throw invalid('the file to execute is the empty string');
  return file.includes('/') ? [file] : search(file, env);
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
  const how = openHow(O.PATH | O.DIRECTORY | O.CLOEXEC, RESOLVE.NO_MAGICLINKS);
  const directory = program.step('cwd', 'openat2', [AT.FDCWD, cwd, how, how.length], {
    text: `openat2(AT_FDCWD, ${JSON.stringify(cwd)}, O_PATH|O_DIRECTORY, RESOLVE_NO_MAGICLINKS)`,
    hint: 'the working directory must be a directory inside the root, not reached through /proc/*/fd, cwd or root',
  });
  program.step('cwd', 'fchdir', [directory]);
}
