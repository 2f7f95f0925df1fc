import type { Child } from '@iso/process';
import { type ContainerOptions, run } from '../index.js';

/** An attack from inside of a container, and the container that has no protection against it. */
export interface Attack {
  name: string;
  /** A shell's commands, run as the container's root: they end with 0 where the attack has succeeded. */
  script: string;
  /** What the container is otherwise; only this one protection is on trial. */
  base?: Partial<ContainerOptions>;
  /** The same container with that protection off. */
  off: Partial<ContainerOptions>;
}

/** Runs a shell in a container and returns what it printed. */
export async function shell(options: Partial<ContainerOptions>, script: string): Promise<string> {
  const box = await run({ root: '/', ...options, command: ['sh', '-c', script], stdio: ['ignore', 'pipe', 'pipe'] });
  return output(box);
}

/** What a container prints, both ways. */
export async function output({ child, exited }: { child: Child; exited: Promise<unknown> }): Promise<string> {
  let text = '';
  child.stdout?.on('data', (chunk) => (text += chunk));
  child.stderr?.on('data', (chunk) => (text += chunk));
  await new Promise((resolve) => child.once('close', resolve));
  await exited;
  return text;
}

/** Names of the attacks that succeed in one container. */
export async function succeeding(options: Partial<ContainerOptions>, attacks: readonly Attack[]): Promise<string[]> {
  const script = attacks.map(({ script }, i) => `( ${script} ) >/dev/null 2>&1 && echo ${i}`);
  const text = await shell(options, [...script, 'echo end'].join('\n'));
  const lines = text.trim().split('\n');
  if (lines.pop() !== 'end') throw new Error(`the shell ended early: ${text}`);
  // The shell says of some how they ended.
  return lines.filter((line) => /^\d+$/.test(line)).map((line) => (attacks[Number(line)] as Attack).name);
}

/** A perl program as a shell's word. */
export const perl = (program: string) => `perl -e '${program}'`;

/** A system call by number, which ends with 0 where it fails with none of these errors. */
export const reaches = (number: number, args: string, refusals: number[]) =>
  perl(
    `my $r = syscall(${number}${args && `, ${args}`}); exit 1 if $r == -1 && grep { $_ == $! } ${refusals.join(', ')}`,
  );
