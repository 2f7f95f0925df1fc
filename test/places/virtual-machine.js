// The kernel tests in virtual machines: cgroup v2 with every controller, and other kernels than this machine's.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Skip } from '../stage.js';
import { judgeSkips, vitestArguments } from '../vitest.js';
import { kernels, runInVm } from '../vm/vm.js';

const cli = new URL('../../examples/container/dist/cli.js', import.meta.url).pathname;

/** What another kernel and another cgroup layout can change. The rest is the same everywhere, and slow here. */
const files = [
  'packages/cgroups',
  'packages/mounts/src/mount-tree',
  'packages/mounts/src/rootfs',
  'packages/mounts/src/table',
  'packages/namespaces/src/namespace',
  'packages/namespaces/src/user',
  'packages/process/src/init',
  'examples/container/src/container',
];

/** Runs them under one kernel, default Debian's stable one. */
export async function virtualMachine(kernel = Object.keys(kernels)[0]) {
  const results = mkdtempSync(join(tmpdir(), 'iso-vm-results-'));
  try {
    const report = join(results, 'report.json');
    const what = { projects: ['kernel'], files, timeoutMs: 120_000 };
    const { exitCode } = await runInVm({
      kernel,
      results,
      command: ['env', `ISO_CLI=${cli}`, process.execPath, ...vitestArguments(report, what)],
      timeoutMs: 780_000,
      onStdout: (chunk) => process.stdout.write(chunk),
      onStderr: (chunk) => process.stderr.write(chunk),
      onReady: ({ release, bootSeconds }) => console.log(`Linux ${release}, booted in ${bootSeconds.toFixed(1)} s`),
    });
    return judgeSkips(`virtual machine, ${kernel}`, report) && exitCode === 0;
  } catch (error) {
    if (error.code === 'VM_UNAVAILABLE') throw new Skip(error.message);
    throw error;
  } finally {
    rmSync(results, { recursive: true, force: true });
  }
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const { positionals } = parseArgs({ allowPositionals: true });
  for (const kernel of positionals.length ? positionals : Object.keys(kernels)) {
    if (!(await virtualMachine(kernel))) process.exitCode = 1;
  }
}
