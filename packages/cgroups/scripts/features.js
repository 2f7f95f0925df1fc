// Writes the README's table of what which version has, from reports of the kernel tests in several places:
//   npx vitest run --project kernel packages/cgroups --reporter=json --outputFile=REPORT
//   node packages/cgroups/scripts/features.js hybrid=REPORT 6.1=REPORT 7.2=REPORT
// A place is called `hybrid`, or by the kernel of a virtual machine that has v2 alone.
import { readFileSync, writeFileSync } from 'node:fs';

const readme = new URL('../README.md', import.meta.url);
const places = process.argv.slice(2).map((word) => word.split(/=(.*)/s));
if (places.length === 0 || places.some(([, path]) => !path)) throw new Error('usage: features.js PLACE=REPORT…');
const columns = [...new Set(['v1 alone', 'hybrid', ...places.map(([place]) => columnOf(place))])];

function columnOf(place) {
  return place === 'hybrid' ? place : `v2, Linux ${place}`;
}

/** feature -> column -> mark */
const table = new Map();
for (const [place, path] of places) {
  const { testResults } = JSON.parse(readFileSync(path, 'utf8'));
  for (const { ancestorTitles, title, status } of testResults.flatMap(({ assertionResults }) => assertionResults)) {
    if (!ancestorTitles[0] || (status === 'skipped' && !/built with/.test(title))) continue;
    const about = ancestorTitles[0].replace(/ \[.*/, '');
    // Tests of the v2 side alone do not name the kind of machine.
    const [, area = about, kind] = /^(.+?) on (legacy|hybrid|unified)$/.exec(about) ?? [];
    const column = kind === 'legacy' ? 'v1 alone' : kind === 'hybrid' ? kind : columnOf(place);
    const [feature, detail = ''] = area === 'limits' ? title.split(': ') : [title.replace(/ \[.*/, '')];
    const lacks = /no such/.test(detail) || status !== 'passed';
    const mark = status === 'failed' ? '✗' : lacks ? '–' : '✓';
    const key = `${area} | ${feature}`;
    const row = table.get(key) ?? {};
    // Seen to work anywhere, it works; seen to fail anywhere, it fails.
    if (row[column] !== '✗' && !(row[column] === '✓' && mark === '–')) row[column] = mark;
    table.set(key, row);
  }
}

const byArea = [...table].sort(([a], [b]) => order(a) - order(b));
function order(key) {
  return [...table.keys()].findIndex((one) => one.split(' | ')[0] === key.split(' | ')[0]);
}

const lines = [
  `| area | feature | ${columns.join(' | ')} |`,
  `| ${['', '', ...columns].map(() => '---').join(' | ')} |`,
  ...byArea.map(([key, row]) => `| ${key} | ${columns.map((column) => row[column] ?? '').join(' | ')} |`),
];
const [start, end] = ['<!-- features -->', '<!-- /features -->'];
const text = readFileSync(readme, 'utf8');
writeFileSync(
  readme,
  `${text.slice(0, text.indexOf(start) + start.length)}\n${lines.join('\n')}\n${text.slice(text.indexOf(end))}`,
);
