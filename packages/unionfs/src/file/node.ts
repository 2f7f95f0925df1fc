import { open } from 'node:fs/promises';
import { KernelError } from '@iso/sys';

/**
 * An error of Node's file functions as everything else here throws them.
 *
 * @param error - anything caught
 * @returns a KernelError for what the kernel refused, anything else as it is
 */
function kernelError(error: unknown): unknown {
  const { errno, syscall, path, dest } = error as NodeJS.ErrnoException & { dest?: string };
  if (!(error instanceof Error) || typeof errno !== 'number' || typeof syscall !== 'string') return error;
  return new KernelError(errno, {
    syscall,
    cause: error,
    ...(path ? { path, call: `${syscall}(${JSON.stringify(path)})` } : {}),
    ...(dest ? { dest } : {}),
  });
}

/** Waits for one of Node's file functions; what it throws is a KernelError. */
export async function kernel<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw kernelError(error);
  }
}

/** Makes a directory's names durable. */
export async function syncDirectory(path: string): Promise<void> {
  await using directory = await kernel(open(path));
  await kernel(directory.sync());
}

/** Whether an error says that there is no such file. */
export function isMissing(error: unknown): boolean {
  return (error as { code?: string } | undefined)?.code === 'ENOENT';
}
