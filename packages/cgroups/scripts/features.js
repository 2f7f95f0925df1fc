// Writes the README's table of what which version has, from reports of the kernel tests in several places:
//   npx vitest run --project kernel packages/cgroups --reporter=json --outputFile=REPORT
//   node packages/cgroups/scripts/features.js REPORT…
import { readFileSync, writeFileSync } from 'node:fs';

const kinds = ['legacy', 'hybrid', 'unified'];
const readme = new URL('../README.md', import.meta.url);
const reports = process.argv.slice(2).map((path) => JSON.parse(readFileSync(path, 'utf8')));
if (reports.length === 0) throw new Error('usage: features.js REPORT…');

/** feature -> kind -> mark */
const table = new Map();
for (const { ancestorTitles, title, status } of reports.flatMap(({ testResults }) =>
  testResults.flatMap(({ assertionResults }) => assertionResults),
)) {
  const [, area, kind] = /^(.+?) on (\w+)/.exec(ancestorTitles[0] ?? '') ?? [];
  if (!kinds.includes(kind) || (status === 'skipped' && !/built with/.test(title))) continue;
  const [feature, detail = ''] = area === 'limits' ? title.split(': ') : [title.replace(/ \[.*/, '')];
  const lacks = /no such/.test(detail) || status !== 'passed';
  const mark = status === 'failed' ? '✗' : lacks ? '–' : '✓';
  const key = `${area} | ${feature}`;
  const row = table.get(key) ?? {};
  // Seen to work anywhere, it works; seen to fail anywhere, it fails.
  if (row[kind] !== '✗' && !(row[kind] === '✓' && mark === '–')) row[kind] = mark;
  table.set(key, row);
}

const lines = [
  '| area | feature | v1 alone | hybrid | v2 |',
  '| --- | --- | --- | --- | --- |',
  ...[...table].map(([key, row]) => `| ${key} | ${kinds.map((kind) => row[kind] ?? '').join(' | ')} |`),
];
const [start, end] = ['<!-- features -->', '<!-- /features -->'];
const text = readFileSync(readme, 'utf8');
writeFileSync(
  readme,
  `${text.slice(0, text.indexOf(start) + start.length)}\n${lines.join('\n')}\n${text.slice(text.indexOf(end))}`,
);
