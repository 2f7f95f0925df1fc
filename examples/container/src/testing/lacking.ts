import { spawnSync } from 'node:child_process';

/**
 * For tests: what is not there of what one needs.
 *
 * @param tools - programs, besides being root
 * @returns the end of its name, which says so; empty where nothing is missing
 */
export function lacking(...tools: string[]): string {
  const missing = [
    ...(process.getuid?.() === 0 ? [] : ['root']),
    ...tools.filter((tool) => spawnSync('sh', ['-c', `command -v ${tool}`]).status !== 0),
  ];
  return missing.length ? ` [needs ${missing.join(', ')}]` : '';
}
