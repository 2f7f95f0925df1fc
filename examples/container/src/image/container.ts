import type { DriverName } from '@iso/unionfs';
import { UsageError } from '../options.js';
import { type ContainerState, lookUp } from '../state/record.js';

/**
 * Finds a container of an image: one that has a layer of its own.
 *
 * @param home - where state is kept
 * @param word - name or id
 * @returns its record
 * @throws UsageError where there is none, or where its root is a directory of the host
 */
export function findSnapshot(
  home: string,
  word: string,
): ContainerState & { image: string; storageDriver?: DriverName } {
  const found = lookUp(home, word);
  if (found.image === undefined) throw new UsageError(`container ${word} was not made from an image`);
  const { storageDriver, ...rest } = found;
  return {
    ...rest,
    image: found.image,
    ...(storageDriver === undefined ? {} : { storageDriver: storageDriver as DriverName }),
  };
}
