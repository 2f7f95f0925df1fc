import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Fd, LaunchProgram, launch, type Part, reap, StringArray } from '@iso/sys';

/**
 * For tests: runs a shell, confined, by nothing but the launcher.
 *
 * @param part - its confinement
 * @param script - what it runs
 * @returns what it wrote to its standard output
 */
export async function inside(part: Part, script: string): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
  using memory = Fd.open(join(folder, 'out'), { flags: 0o102, mode: 0o600 });
  rmSync(folder, { recursive: true });
  const program = new LaunchProgram();
  await part.confine(program);
  program.step('fds', 'dup3', [memory, 1, 0]);
  program.step('fds', 'fcntl', [2, 2, 0]);
  program.closeFrom(3);
  const environment = new StringArray(['PATH=/usr/sbin:/usr/bin:/sbin:/bin']);
  program.step('exec', 'execve', ['/bin/sh', new StringArray(['sh', '-c', script]), environment]);
  const { pidfd } = launch(program);
  const status = reap(pidfd, { block: true });
  pidfd.close();
  const text = readFileSync(`/proc/self/fd/${memory.number}`, 'utf8');
  if (status?.code !== 0) throw new Error(`the shell ended with ${status?.code ?? status?.signal}: ${text}`);
  return text;
}

/**
 * For tests: runs a script in a Node of its own, where `ns` is this package and `sys` @iso/sys.
 *
 * @param script - the body of an ES module
 * @param shell - what starts it (`"$0" "$@"` is the command)
 * @returns what it wrote to its standard output
 */
export function inNode(script: string, shell = 'exec "$0" "$@"'): string {
  const module = `const ns = await import(${JSON.stringify(join(import.meta.dirname, 'index.ts'))});
    const sys = await import('@iso/sys');\n${script}`;
  const node = [process.execPath, '--conditions=iso-source', '--import', 'tsx', '--input-type=module', '-e', module];
  const options = { encoding: 'utf8', timeout: 60_000, cwd: import.meta.dirname } as const;
  const { status, signal, stdout, stderr } = spawnSync('sh', ['-c', shell, ...node], options);
  if (status !== 0) throw new Error(`the script ended with ${status ?? signal}:\n${stdout}\n${stderr}`);
  return stdout;
}
