import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

/**
 * For tests: runs a script in a Node of its own, where `iso` is this package.
 *
 * @param script - the body of an ES module
 * @param options - `shell`: what starts it (`"$0" "$@"` is the command); `before`: a command in front of it
 * @returns what it wrote to its standard output
 */
export function inNode(script: string, options: { shell?: string; before?: readonly string[] } = {}): string {
  const { status, signal, stdout, stderr } = spawnSync(
    'sh',
    ['-c', options.shell ?? 'exec "$0" "$@"', ...(options.before ?? []), ...nodeCommand(script)],
    { encoding: 'utf8', timeout: 60_000 },
  );
  if (status !== 0) throw new Error(`the script ended with ${status ?? signal}:\n${stdout}\n${stderr}`);
  return stdout;
}

/**
 * For tests: the command line of {@link inNode}.
 *
 * @param script - the body of an ES module
 * @returns file and arguments
 */
export function nodeCommand(script: string): string[] {
  const module = `const iso = await import(${JSON.stringify(join(import.meta.dirname, 'index.ts'))});\n${script}`;
  const flags = ['--conditions=iso-source', '--import', 'tsx', '--input-type=module', '-e'];
  return [process.execPath, ...flags, module];
}
