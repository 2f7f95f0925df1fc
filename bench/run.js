// `npm run bench`: ours beside theirs, in turn, in one run; medians and ratios. See README for the options.
import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { prepareMachine } from '../test/machine.js';
import { rows } from './rows.js';

const { values, positionals } = parseArgs({
  options: { json: { type: 'boolean' }, only: { type: 'string', multiple: true }, rounds: { type: 'string' } },
  allowPositionals: true,
});
const only = [...(values.only ?? []), ...positionals].flatMap((names) => names.split(','));
const unknown = only.filter((name) => !rows.some((row) => row.name === name));
if (unknown.length) {
  console.error(`no such row: ${unknown.join(', ')}; there are ${rows.map((row) => row.name).join(', ')}`);
  process.exit(2);
}
if (!existsSync('/proc/self/ns')) {
  console.error('the benchmark needs Linux');
  process.exit(2);
}

prepareMachine({
  crun: 'crun',
  gcc: 'gcc',
  unshare: 'util-linux',
  nft: 'nftables',
  iperf3: 'iperf3',
  dnsmasq: 'dnsmasq-base',
  umoci: 'umoci',
  skopeo: 'skopeo',
  containerd: 'containerd',
});

const results = [];
for (const row of rows) {
  if (only.length && !only.includes(row.name)) continue;
  const result = await row.measure(values.rounds ? Number(values.rounds) : undefined);
  results.push({ name: row.name, ...result, target: row.target });
}

if (values.json) console.log(JSON.stringify({ rows: results }));
else {
  const number = (value) => (value === null ? '-' : value < 10 ? value.toFixed(3) : value.toFixed(1));
  const table = [
    ['row', 'ours', 'peer', 'unit', 'ratio', 'target', 'peer is'],
    ...results.map((row) => [
      row.name,
      number(row.ours),
      number(row.peer),
      row.unit,
      number(row.ratio),
      String(row.target),
      row.peerName,
    ]),
  ];
  for (const line of table)
    console.log(
      line
        .map((cell, i) => cell.padEnd([20, 10, 10, 8, 8, 8, 0][i]))
        .join('  ')
        .trimEnd(),
    );
}
