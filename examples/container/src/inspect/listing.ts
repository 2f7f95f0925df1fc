import { printable } from '../printable.js';
import { table } from '../table.js';
import { checkTemplate, render } from './template.js';

/** A column of a table: its title, and the field that docker's templates have for it. */
export type Column<Row> = readonly [title: string, field: keyof Row & string];

/**
 * Rows as docker's `--format` says.
 *
 * @param rows - fields by docker's names
 * @param how - `json`: a line each; `table`: the columns; `table TEMPLATE`: those of it; or a template
 * @param columns - of the table
 * @returns lines
 * @throws {@link UsageError} for what is no template
 */
export function listing<Row extends { [Field in keyof Row]: string }>(
  rows: readonly Row[],
  how: string,
  columns: readonly Column<Row>[],
): string[] {
  if (how === 'json') return rows.map((row) => JSON.stringify(row));
  if (how === 'table')
    return table([columns.map(([title]) => title), ...rows.map((row) => columns.map(([, field]) => row[field]))]);
  const [, wanted] = /^table\s+(.*)$/s.exec(how) ?? [];
  checkTemplate(wanted ?? how);
  if (wanted === undefined) return rows.map((row) => render(how, row));
  const cells = (text: string) => text.replaceAll('\\t', '\t').split('\t');
  // The headline is the template with the names of its fields.
  const title = wanted.replace(
    /\{\{\s*\.(\w+)\s*\}\}/g,
    (_, field: string) => columns.find(([, key]) => key === field)?.[0] ?? field.toUpperCase(),
  );
  // What is in a field is in one cell.
  const fields = (row: Row) =>
    Object.fromEntries(Object.entries<string>(row).map(([key, text]) => [key, printable(text, '')]));
  return table([cells(title), ...rows.map((row) => cells(render(wanted, fields(row))))]);
}
