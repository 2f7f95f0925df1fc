import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Fd, LaunchProgram, launch, launchAsync, type Part, reap, StringArray, watchFd } from '@iso/sys';

/** How a program ended, and what it wrote. */
export interface Outcome {
  code: number | null;
  signal: number | null;
  stdout: string;
}

/**
 * For tests: runs a program, confined, by nothing but the launcher, while this thread goes on.
 *
 * @param part - its confinement
 * @param argv - the program
 * @returns its end and its output
 */
export async function outcome(part: Part, argv: readonly string[]): Promise<Outcome> {
  const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
  using output = Fd.open(join(folder, 'out'), { flags: 0o102, mode: 0o600 });
  rmSync(folder, { recursive: true });
  const program = new LaunchProgram();
  await part.confine(program);
  program.step('fds', 'dup3', [output, 1, 0]);
  program.step('fds', 'fcntl', [2, 2, 0]);
  program.closeFrom(3);
  // All are blocked around the clone.
  program.step('signals', 'rt_sigprocmask', [2, Buffer.alloc(8), null, 8]);
  const environment = new StringArray(['PATH=/usr/sbin:/usr/bin:/sbin:/bin']);
  program.step('exec', 'execve', [argv[0] as string, new StringArray(argv), environment]);
  const { pidfd } = program.blocking ? await launchAsync(program) : launch(program);
  await watchFd(pidfd);
  const status = reap(pidfd, { block: true });
  pidfd.close();
  const stdout = readFileSync(`/proc/self/fd/${output.number}`, 'utf8');
  return { code: status?.code ?? null, signal: status?.signal ?? null, stdout };
}

/**
 * For tests: runs a shell, confined.
 *
 * @param part - its confinement
 * @param script - what it runs
 * @returns what it wrote to its standard output
 */
export async function inside(part: Part, script: string): Promise<string> {
  const { code, signal, stdout } = await outcome(part, ['/bin/sh', '-c', script]);
  if (code !== 0) throw new Error(`the shell ended with ${code ?? `signal ${signal}`}: ${stdout}`);
  return stdout;
}
