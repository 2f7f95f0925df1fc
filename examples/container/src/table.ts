import { printable } from './printable.js';

/**
 * Lines with columns as wide as their widest cell, docker's three spaces between. A cell stays in its column, whatever is in it.
 *
 * @param given - cells, the headline first
 * @returns lines
 */
export function table(given: readonly (readonly string[])[]): string[] {
  const rows = given.map((row) => row.map((cell) => printable(cell, '')));
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('   ')
      .trimEnd(),
  );
}

/**
 * A size as docker shows it: three digits and a decimal unit.
 *
 * @param bytes - how many
 * @returns for example `12.3MB`
 */
export function size(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : Number(value.toPrecision(3))}${units[unit]}`;
}
