import { listContainers } from '../state/record.js';

/**
 * The images that containers are made of, running or not: without its image none of them can be started again.
 *
 * @param home - where state is kept
 * @returns for each digest a name of such a container
 */
export function usedImages(home: string): Map<string, string> {
  return new Map(
    listContainers(home).flatMap(({ image, name }) => (image === undefined ? [] : [[image, name] as const])),
  );
}
