import type { Hierarchy, Layout } from './layout.js';
import { makePlaces, wanted } from './make.js';
import type { CreateOptions } from './options.js';
import { Places } from './places.js';
import { planIn, setInNew } from './set.js';

/**
 * Makes a group with its limits. Where something is refused nothing of it stays.
 *
 * @param name - of its directories
 * @param layout - of the machine
 * @param parentOf - the parent's path below each hierarchy's top; undefined where it has none
 * @param options - limits and controllers
 * @returns its directories
 */
export function createPlaces(
  name: string,
  layout: Layout,
  parentOf: (hierarchy: Hierarchy) => string | undefined,
  { limits = {}, controllers, threaded = false, onUnsupported }: CreateOptions,
): Places {
  const unsupported = onUnsupported ? { onUnsupported } : {};
  // Judged before anything exists.
  planIn(
    Places.open(layout, () => undefined),
    limits,
    unsupported,
  );
  const places = makePlaces(layout, parentOf, name, { ...wanted(controllers, Object.keys(limits)), threaded });
  try {
    setInNew(places, limits, unsupported);
    return places;
  } catch (error) {
    for (const directory of places.directories) directory.remove();
    places[Symbol.dispose]();
    throw error;
  }
}
