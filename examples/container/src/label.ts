import { UsageError } from './options.js';

/**
 * Parses docker's `--label`.
 *
 * @param texts - each `NAME[=VALUE]`
 * @returns values by name
 * @throws {@link UsageError} for an empty name
 */
export function parseLabels(texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const [name = '', value = ''] = text.split(/=(.*)/s);
      if (name === '') throw new UsageError(`not a label: ${JSON.stringify(text)}, it is NAME[=VALUE]`);
      return [name, value];
    }),
  );
}
