import { assemble } from '../assemble.js';
import { networkOf } from '../command/network-options.js';
import { sharingOf } from '../command/process-options.js';
import { healthConfig } from '../health/config.js';
import { parseLabels } from '../label.js';
import { checkName, UsageError } from '../options.js';
import { complete, containerOptions, isPath, type RunFlags, settled } from '../recipe.js';
import { limitsOf } from '../resources.js';
import { clean } from '../state/clean.js';
import { HeldRecord } from '../state/held.js';

/**
 * Makes a container: takes its name, and makes its layer where it is one of an image. Nothing of it runs.
 *
 * @param home - where state is kept
 * @param given - root, command and options, as typed
 * @returns its record, held; it is not there for others until `complete()`
 * @throws UsageError for options that make no sense; what the layer throws
 */
export async function make(
  home: string,
  given: { root: string; command: readonly string[]; flags: RunFlags },
): Promise<HeldRecord> {
  const { command } = given;
  checkName(given.flags.name);
  const { root, flags } = settled(given.root, given.flags);
  const path = isPath(root);
  // All that can be wrong is found before there is anything.
  const options = containerOptions(root, command, flags);
  networkOf(flags);
  sharingOf(flags);
  limitsOf(options);
  const healthcheck = healthConfig(flags);
  if (path) await assemble(flags.name ?? 'name', options, undefined);
  if (path && flags.storageDriver) throw new UsageError('--storage-driver is for images: ROOT is a directory');
  await clean(home);
  const record = HeldRecord.create(home, {
    ...(flags.name === undefined ? {} : { name: flags.name }),
    root,
    command,
    flags,
    labels: parseLabels(flags.label ?? []),
    autoRemove: flags.rm ?? false,
  });
  try {
    if (path) {
      if (healthcheck) record.update({ healthcheck });
    } else {
      const { makeLayer } = await import('../image/root.js');
      const { pull, storageDriver: driver, storageOpt: size } = flags;
      const config = await makeLayer(home, root, record.id, { pull, driver, size }, (image) =>
        record.update({ image, ...(driver === undefined ? {} : { storageDriver: driver }) }),
      );
      const { command: line } = complete(options, flags, config);
      record.update(({ labels }) => ({
        line,
        labels: { ...config.Labels, ...labels },
        healthcheck: healthConfig(flags, config),
        ...(flags.stopSignal === undefined && config.StopSignal
          ? { flags: { ...flags, stopSignal: config.StopSignal } }
          : {}),
      }));
    }
    return record;
  } catch (error) {
    record[Symbol.dispose]();
    await clean(home);
    throw error;
  }
}
