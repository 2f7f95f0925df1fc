// What judges the kernel tests: iproute2 and nft, run inside the namespace that is looked at.
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { NetNS } from '../index.js';

/** Runs a command inside; returns what it wrote. */
export function inside(ns: NetNS, command: string, input?: string): string {
  return execFileSync('nsenter', [`--net=/proc/${process.pid}/fd/${ns.fd.number}`, 'sh', '-c', command], {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    ...(input !== undefined && { input }),
    stdio: ['pipe', 'pipe', 'pipe'],
  });
}

/** What `ip -j` says. */
export function ip(ns: NetNS, args: string): Record<string, unknown>[] {
  return JSON.parse(inside(ns, `ip -j ${args}`) || '[]') as Record<string, unknown>[];
}

/** Runs a command here, not inside. */
export function outside(command: string): string {
  return execFileSync('sh', ['-c', command], { encoding: 'utf8' });
}

/** The repository. */
export const home: string = fileURLToPath(new URL('../../../..', import.meta.url));

export const root: boolean = process.getuid?.() === 0;
