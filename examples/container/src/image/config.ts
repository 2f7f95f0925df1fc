import type { RunConfig } from '@iso/unionfs';
import type { ContainerOptions } from '../assemble.js';
import { UsageError } from '../options.js';

/**
 * Adds to the options of a container what its image says, where they do not say otherwise.
 *
 * @param options - as they were given
 * @param config - of the image
 * @param entrypoint - instead of the image's; the image's command goes with it
 * @returns options for `run()`
 * @throws {@link UsageError} where neither names a command
 */
export function withConfig(options: ContainerOptions, config: RunConfig, entrypoint?: string): ContainerOptions {
  const given = options.command ?? [];
  const before = entrypoint === undefined ? (config.Entrypoint ?? []) : entrypoint === '' ? [] : [entrypoint];
  const rest = given.length > 0 ? given : entrypoint === undefined ? (config.Cmd ?? []) : [];
  const command = [...before, ...rest];
  if (command.length === 0) throw new UsageError('no command is given, and the image has none');
  const user = options.user ?? (config.User || undefined);
  const cwd = options.cwd ?? (config.WorkingDir || undefined);
  return {
    ...options,
    command,
    // A name without a value would take this process's: what that is, is no business of the image.
    env: [...(config.Env ?? []).filter((variable) => variable.includes('=')), ...(options.env ?? [])],
    ...(user === undefined ? {} : { user }),
    ...(cwd === undefined ? {} : { cwd }),
  };
}
