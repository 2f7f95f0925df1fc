import type { Fd } from '@iso/sys';

/** A command that a build wants to be run. */
export interface BuildRun {
  /** Program and arguments. */
  argv: readonly string[];
  /** `NAME=VALUE`, all that there is. */
  env: readonly string[];
  /** Absolute path inside; it is there. */
  cwd: string;
  /** `NAME|UID[:GROUP|GID]` of the image's own files; empty for root. */
  user: string;
  /**
   * The root file system, a mount that is attached nowhere and stays the caller's. All that is different in it afterwards is the
   * layer: what was only put there for something to be mounted on must be gone again.
   */
  root: Fd;
  /** As the step has it. */
  network?: string;
  signal?: AbortSignal;
  /** Takes what the command writes. */
  onOutput(bytes: Uint8Array): void;
}

/**
 * Runs a command of a build, confined as it sees fit. A code other than 0 fails the build, as does what it throws.
 */
export type BuildExecutor = (run: BuildRun) => Promise<{ code: number | null; signal?: string | null }>;
