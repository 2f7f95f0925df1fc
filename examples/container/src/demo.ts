// One screen: a container on the host's own root, host and inside side by side, and what it cost.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { hostname, networkInterfaces } from 'node:os';
import { KernelError } from '@iso/sys';
import type { ContainerOptions } from './assemble.js';
import { run } from './container.js';

const marker = `/etc/iso-demo-${process.pid}`;
const look = `
  echo "pid=$$"
  echo "host name=$(cat /proc/sys/kernel/hostname)"
  echo "processes=$(ls /proc | grep -c '^[0-9]')"
  echo "mounts=$(wc -l < /proc/self/mountinfo)"
  echo "root file system=$(awk '$5=="/" {for (i=6;i<NF;i++) if ($i=="-") print $(i+1)}' /proc/self/mountinfo)"
  echo "network=$(awk -F: 'NR>2 {gsub(/ /,"",$1); printf "%s ", $1}' /proc/net/dev)"
  echo "user namespace=$(readlink /proc/self/ns/user)"
  echo there > ${marker} && echo "a file written=$(cat ${marker})"
`;

async function output(options: Omit<ContainerOptions, 'root'>) {
  const container = await run({ root: '/', ...options });
  const chunks: Buffer[] = [];
  for await (const chunk of container.child.stdout ?? []) chunks.push(chunk as Buffer);
  const exit = await container.exited;
  return { text: Buffer.concat(chunks).toString(), exit, startedInMs: container.startedInMs };
}

async function memoryBites(): Promise<string> {
  // Shell variables grow until the limit of 32 MB ends it.
  const eat = 'x=0123456789abcdef; while :; do x=$x$x; done';
  try {
    const { exit } = await output({ command: ['sh', '-c', eat], memory: 32 * 1024 * 1024, pidsLimit: 16 });
    return `${exit.signal ?? `exit ${exit.code}`}${exit.oomKilled ? ', the kernel counts an OOM kill' : ''}`;
  } catch (error) {
    if (!KernelError.is(error)) throw error;
    return `${error.code}: needs a cgroup delegated to this user`;
  }
}

function median(values: number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] as number;
}

async function times(): Promise<{ plain: number; container: number }> {
  const plain: number[] = [];
  const container: number[] = [];
  for (let i = 0; i < 15; i++) {
    let start = performance.now();
    spawnSync('/bin/true');
    plain.push(performance.now() - start);
    start = performance.now();
    const box = await run({ root: '/', command: ['/bin/true'], stdio: 'ignore' });
    await box.exited;
    container.push(performance.now() - start);
  }
  return { plain: median(plain), container: median(container) };
}

const inside = Object.fromEntries(
  (await output({ command: ['sh', '-c', look], hostname: 'box' })).text
    .trim()
    .split('\n')
    .map((line) => line.split(/=(.*)/s) as [string, string]),
);
const rootMount = readFileSync('/proc/self/mountinfo', 'utf8')
  .split('\n')
  .find((line) => line.split(' ')[4] === '/');
const host: Record<string, string> = {
  pid: String(process.pid),
  'host name': hostname(),
  processes: String(readdirSync('/proc').filter((name) => /^\d+$/.test(name)).length),
  mounts: String(readFileSync('/proc/self/mountinfo', 'utf8').trim().split('\n').length),
  'root file system': rootMount?.split(' - ')[1]?.split(' ')[0] ?? '?',
  network: Object.keys(networkInterfaces()).join(' '),
  'user namespace': readlinkSync('/proc/self/ns/user'),
  'a file written': existsSync(marker) ? 'it leaked!' : 'not there',
};
rmSync(marker, { force: true });

const widths = [18, 32, 48];
const row = (...cells: string[]) =>
  console.log(`  ${cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('')}`.trimEnd());
const who = process.getuid?.() === 0 ? 'root' : 'a plain user';
console.log(`\n  iso: a container on this machine's own root file system, started by ${who}\n`);
row('', 'host', 'inside');
row('', '-'.repeat((widths[1] as number) - 4), '-'.repeat((widths[1] as number) - 4));
for (const name of Object.keys(host)) row(name, host[name] ?? '', inside[name]?.trim() ?? '-');
row('32 MB of memory', '-', await memoryBites());
const { plain, container } = await times();
row(
  'start to exit',
  `${plain.toFixed(2)} ms, a plain spawn`,
  `${container.toFixed(2)} ms, ${(container / plain).toFixed(1)} times as long`,
);
console.log(`\n  Next: npx iso run / sh    npx iso run --help\n`);
if (host['a file written'] !== 'not there' || inside.pid !== '1') process.exitCode = 1;
