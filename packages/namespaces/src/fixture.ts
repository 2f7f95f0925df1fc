import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fromSources } from '../../../test/typescript.js';

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
  const node = [process.execPath, ...fromSources, '--input-type=module', '-e', module];
  const options = { encoding: 'utf8', timeout: 60_000, cwd: import.meta.dirname } as const;
  const { status, signal, stdout, stderr } = spawnSync('sh', ['-c', shell, ...node], options);
  if (status !== 0) throw new Error(`the script ended with ${status ?? signal}:\n${stdout}\n${stderr}`);
  return stdout;
}
