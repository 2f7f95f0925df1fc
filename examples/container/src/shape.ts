import { UsageError } from './options.js';

/** What a value is. */
export type Shape = keyof typeof kinds;

const all = (is: (value: unknown) => boolean) => (value: unknown) => Array.isArray(value) && value.every(is);
const isObject = (value: unknown) => typeof value === 'object' && value !== null && !Array.isArray(value);

const kinds = {
  text: (value: unknown) => typeof value === 'string',
  number: (value: unknown) => typeof value === 'number',
  'true or false': (value: unknown) => typeof value === 'boolean',
  'a list of texts': all((value) => typeof value === 'string'),
  'a list of objects': all(isObject),
  'an object': isObject,
  'text or an object': (value: unknown) => typeof value === 'string' || isObject(value),
  'text or a list': (value: unknown) => typeof value === 'string' || Array.isArray(value),
} as const;

/**
 * Refuses options that there are not, which would be left out silently, and the container have one protection less; and those that
 * are something else than they must be.
 *
 * @param options - as they were given
 * @param shapes - of each that there is; undefined passes for all
 * @param of - whose options they are, for the error
 * @throws {@link UsageError}
 */
export function checkShape(options: unknown, shapes: Readonly<Record<string, Shape>>, of: string): void {
  if (!isObject(options)) throw new UsageError(`${of} takes an object with options, not ${shown(options)}`);
  for (const [name, value] of Object.entries(options as object)) {
    if (!Object.hasOwn(shapes, name))
      throw new UsageError(`${of} has no option ${JSON.stringify(name)}, there are ${Object.keys(shapes).join(', ')}`);
    const shape = shapes[name] as Shape;
    if (value === undefined || isOfShape(value, shape)) continue;
    throw new UsageError(`${name} of ${of} is ${shape}, not ${shown(value)}`);
  }
}

/** Whether a value is what it must be. */
export function isOfShape(value: unknown, shape: Shape): boolean {
  return kinds[shape](value);
}

function shown(value: unknown): string {
  return (JSON.stringify(value) ?? String(value)).slice(0, 100);
}
