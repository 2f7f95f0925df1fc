import { parseDuration } from '../duration.js';
import { UsageError } from '../options.js';

/**
 * Parses docker's `--since` and `--until`.
 *
 * @param text - a time (`2026-01-31T12:00:00Z`, also shorter, then local), seconds since 1970, or how long ago (`10m`, `1h30m`)
 * @returns milliseconds since 1970
 * @throws {@link UsageError}
 */
export function parseTime(text: string): number {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000;
  const ago = parseDuration(text);
  if (ago !== undefined) return Date.now() - ago;
  // A date alone is one of this place, as for docker, where JavaScript takes it for one of Greenwich.
  const local = /^\d{4}-\d\d-\d\d$/.test(text) ? `${text}T00:00:00` : text.replace(/^(\d{4}-\d\d-\d\dT\d\d)$/, '$1:00');
  const time = /^\d{4}-\d\d-\d\dT\d\d/.test(local) ? Date.parse(local) : Number.NaN;
  if (Number.isNaN(time))
    throw new UsageError(
      `not a time: ${JSON.stringify(text)}, it is 2026-01-31T12:00:00Z, seconds since 1970, or 10m ago`,
    );
  return time;
}
