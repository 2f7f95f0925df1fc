// Runs the conformance suite of what was built, without a test runner: for virtual machines, whose emulated processor takes minutes to load
// one. DRIVER is on the machine's own file system, DRIVER@btrfs, @xfs or @ext4 on one in a file. The report is as vitest's.
//   npm run conform -w packages/unionfs -- REPORT overlay2 vfs btrfs@btrfs devicemapper
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openDriver } from '@iso/unionfs';
import { conformance } from '@iso/unionfs/testsuite';

const [report, ...words] = process.argv.slice(2);
if (!report || words.length === 0) throw new Error('usage: conform.js REPORT DRIVER[@FILESYSTEM]…');
const MIB = 2 ** 20;
const OPTIONS = { devicemapper: { poolSize: 256 * MIB, metadataSize: 8 * MIB, layerSize: 48 * MIB } };
const folder = mkdtempSync(join(tmpdir(), 'iso-conform-'));
const run = (command, ...args) => execFileSync(command, args, { encoding: 'utf8' }).trim();
const results = [];

for (const word of words) {
  const [name, filesystem] = word.split('@');
  const place = join(folder, word);
  mkdirSync(place);
  const device = filesystem && mount(filesystem, place);
  try {
    await conform(name, filesystem, join(place, 'layers'));
  } finally {
    if (device) {
      run('umount', place);
      run('losetup', '-d', device);
    }
  }
}
rmSync(folder, { recursive: true });
writeFileSync(report, JSON.stringify({ testResults: [{ assertionResults: results }] }));
process.exitCode = results.every(({ status }) => status === 'passed') ? 0 : 1;

async function conform(name, filesystem = 'the machine', layers) {
  mkdirSync(layers);
  const driver = openDriver(name, layers, OPTIONS[name] ?? {});
  for (const { name: title, run: act } of conformance) {
    const start = performance.now();
    let wrong;
    try {
      await act(driver);
      const left = readdirSync(layers).filter((file) => !file.startsWith('.'));
      if (left.length) wrong = `left ${left}`;
    } catch (error) {
      wrong = error;
    }
    const status = wrong === undefined ? 'passed' : 'failed';
    results.push({ ancestorTitles: [`${name} on ${filesystem}`], title, status });
    console.log(`${status} ${name} on ${filesystem}: ${title} (${((performance.now() - start) / 1000).toFixed(1)} s)`);
    if (wrong !== undefined) console.log(wrong);
  }
  driver[Symbol.dispose]();
}

/** A new file system in a file, mounted; where nobody makes the nodes of loop devices, this does. */
function mount(type, place) {
  const image = join(folder, `${type}.img`);
  rmSync(image, { force: true });
  writeFileSync(image, '');
  truncateSync(image, 512 * MIB);
  run(`mkfs.${type}`, '-q', image);
  const node = (path, ...words) => existsSync(path) || run('mknod', path, ...words);
  // The kernel loads the module when somebody opens this.
  node('/dev/loop-control', 'c', '10', '237');
  const device = run('losetup', '-f');
  node(device, 'b', '7', /\d+$/.exec(device)[0]);
  run('losetup', device, image);
  run('mount', '-t', type, device, place);
  return device;
}
