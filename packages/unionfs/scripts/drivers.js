// Writes the README's table of which driver passes the conformance suite where, from reports of the drivers' tests in several places:
//   ISO_LONG=1 npx vitest run --project kernel packages/unionfs/src/driver --reporter=json --outputFile=REPORT
//   npm run drivers -w packages/unionfs -- 'Linux 6.18=REPORT' 'Linux 6.1=REPORT'
import { readFileSync, writeFileSync } from 'node:fs';

const readme = new URL('../README.md', import.meta.url);
const places = process.argv.slice(2).map((word) => word.split(/=(.*)/s));
if (places.length === 0 || places.some(([, path]) => !path)) throw new Error('usage: drivers.js PLACE=REPORT…');
const DRIVERS = ['overlay2', 'btrfs', 'zfs', 'devicemapper', 'aufs', 'fuse-overlayfs', 'vfs'];
const PLAIN = 'plain user';

/** `DRIVER on FILE SYSTEM`: a test a case; or one test of the whole suite, in a process of its own. */
function rowOf([about], title) {
  const [, driver, on, plain] = /^(\S+)(?: on (the machine|\w+)|( for a plain user))?$/.exec(about) ?? [];
  if (!DRIVERS.includes(driver)) return undefined;
  if (on === undefined && !/^passes\b/.test(title)) return undefined;
  // ext4 is what a machine has; /tmp of a virtual one is tmpfs, which before Linux 6.6 keeps no user.* attributes.
  const usual = [driver, undefined, 'the machine', 'ext4'].includes(on);
  const filesystem = usual ? '' : ` on ${on}`;
  return { row: `${driver}${filesystem}`, plain: plain !== undefined || / plain user /.test(title) };
}

/** row -> column -> what became of its tests */
const table = new Map();
for (const [place, path] of places) {
  const { testResults } = JSON.parse(readFileSync(path, 'utf8'));
  for (const { ancestorTitles, title, status } of testResults.flatMap(({ assertionResults }) => assertionResults)) {
    const found = rowOf(ancestorTitles, title);
    if (!found) continue;
    const row = table.get(found.row) ?? new Map();
    table.set(found.row, row);
    const column = found.plain ? `${PLAIN}, ${place}` : place;
    const cell = row.get(column) ?? { passed: 0, failed: 0, lacks: '' };
    row.set(column, cell);
    if (status === 'passed') cell.passed++;
    else if (status === 'failed') cell.failed++;
    else cell.lacks = /\[needs (.*)\]/.exec(title)?.[1] ?? 'not run';
  }
}

const columns = [...new Set([...table.values()].flatMap((row) => [...row.keys()]))].sort(
  (a, b) => Number(a.startsWith(PLAIN)) - Number(b.startsWith(PLAIN)),
);
const mark = (cell) => {
  if (!cell) return '';
  if (cell.failed) return `✗ ${cell.failed} of ${cell.failed + cell.passed}`;
  return cell.passed && !cell.lacks ? '✓' : `needs ${cell.lacks}`;
};
const rows = [...table].sort(([a], [b]) => order(a) - order(b) || a.length - b.length);
function order(row) {
  return DRIVERS.indexOf(row.split(' ')[0]);
}

const lines = [
  `| driver | ${columns.join(' | ')} |`,
  `| ${['', ...columns].map(() => '---').join(' | ')} |`,
  ...rows.map(
    ([row, cells]) =>
      `| \`${row.split(' ')[0]}\`${row.slice(row.split(' ')[0].length)} | ${columns.map((column) => mark(cells.get(column))).join(' | ')} |`,
  ),
];
const [start, end] = ['<!-- drivers -->', '<!-- /drivers -->'];
const text = readFileSync(readme, 'utf8');
writeFileSync(
  readme,
  `${text.slice(0, text.indexOf(start) + start.length)}\n${lines.join('\n')}\n${text.slice(text.indexOf(end))}`,
);
