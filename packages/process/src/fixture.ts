import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { fromSources } from '../../../test/typescript.js';

/**
 * For tests: runs a script in a Node of its own, where `iso` is this package.
 *
 * @param script - the body of an ES module
 * @param options - `shell`: what starts it (`"$0" "$@"` is the command)
 * @returns what it wrote to its standard output
 */
export async function inNode(script: string, options: { shell?: string } = {}): Promise<string> {
  const command = nodeCommand(script);
  return new Promise((resolve, reject) =>
    execFile(
      'sh',
      ['-c', options.shell ?? 'exec "$0" "$@"', ...command],
      { encoding: 'utf8', timeout: 240_000 },
      (error, stdout, stderr) =>
        error
          ? reject(new Error(`the script ended with ${error.code ?? error.signal}:\n${stdout}\n${stderr}`))
          : resolve(stdout),
    ),
  );
}

/**
 * For tests: the command line of {@link inNode}.
 *
 * @param script - the body of an ES module
 * @returns file and arguments
 */
export function nodeCommand(script: string): string[] {
  const module = `const iso = await import(${JSON.stringify(join(import.meta.dirname, 'index.ts'))});\n${script}`;
  const flags = [...fromSources, '--input-type=module', '-e'];
  return [process.execPath, ...flags, module];
}
