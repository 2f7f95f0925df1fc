// The kernel tests in virtual machines: cgroup v2 with every controller, and other kernels than this machine's.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { main, Skip } from '../stage.js';
import { judgeSkips, vitestArguments } from '../vitest.js';
import { kernels, runInVm } from '../vm/vm.js';

const cli = new URL('../../examples/container/dist/cli.js', import.meta.url).pathname;
const oci = new URL('../../examples/oci-runtime/bin/iso-oci.js', import.meta.url).pathname;

const LONG = process.env.ISO_LONG !== undefined;

/** What another kernel and another cgroup layout can change. The rest is the same everywhere, and slow here. */
const files = [
  'packages/cgroups/src/cgroup.',
  'packages/cgroups/src/delegation',
  'packages/cgroups/src/devices',
  'packages/cgroups/src/events',
  'packages/cgroups/src/limits',
  'packages/cgroups/src/stats',
  'packages/cgroups/src/threads',
  'packages/namespaces/src/namespace',
  'packages/unionfs/src/overlay',
  // These take an emulated processor minutes.
  ...(LONG
    ? [
        'examples/container/src/container',
        'packages/mounts/src/mount-tree',
        'packages/mounts/src/rootfs',
        'packages/mounts/src/table',
        'packages/namespaces/src/user',
        'packages/process/src/image',
        'packages/cgroups/src/many',
        'packages/cgroups/src/systemd',
        'packages/unionfs/src/driver/devicemapper',
        'examples/container/src/attack',
        'examples/oci-runtime/src/config',
        'examples/oci-runtime/src/container',
        'examples/oci-runtime/src/engines',
        'examples/oci-runtime/src/hooks',
        'examples/oci-runtime/src/oci.',
        'packages/netns/src/namespace/tun',
        'packages/netns/src/network/networks',
        'packages/netns/src/route/route',
        'packages/netns/src/tc',
      ]
    : []),
];

/**
 * Runs tests under one kernel.
 *
 * @param {string} kernel
 * @param {string} place its name in the list of skips
 * @param {string[]} files
 * @param {'command' | 'systemd'} init what is process 1
 */
async function virtualMachine(kernel, place, files, init) {
  const results = mkdtempSync(join(tmpdir(), 'iso-vm-results-'));
  try {
    const report = join(results, 'report.json');
    // An emulated processor takes ten seconds to load what a file needs.
    const what = { projects: ['kernel'], files, timeoutMs: 120_000, together: true };
    const { exitCode } = await runInVm({
      kernel,
      init,
      results,
      command: [
        'env',
        'ISO_SLOW=1',
        ...(LONG ? ['ISO_LONG=1'] : []),
        `ISO_CLI=${cli}`,
        `ISO_OCI=${oci}`,
        process.execPath,
        ...vitestArguments(report, what),
      ],
      timeoutMs: LONG ? 3_600_000 : 1_200_000,
      onStdout: (chunk) => process.stdout.write(chunk),
      onStderr: (chunk) => process.stderr.write(chunk),
      onReady: ({ release, bootSeconds }) => console.log(`Linux ${release}, booted in ${bootSeconds.toFixed(1)} s`),
    });
    return judgeSkips(place, report) && exitCode === 0;
  } catch (error) {
    if (error.code === 'VM_UNAVAILABLE') throw new Skip(error.message);
    throw error;
  } finally {
    rmSync(results, { recursive: true, force: true });
  }
}

/** Under one kernel, as it comes; then what needs systemd as process 1, where that is asked for, or the long run is. */
async function underKernel(kernel, flags) {
  const alone = flags.includes('--systemd');
  const passed = alone || (await virtualMachine(kernel, `virtual machine, ${kernel}`, files, 'command'));
  if (!alone && !LONG) return passed;
  const systemd = ['packages/cgroups/src/systemd', ...(LONG ? ['examples/oci-runtime/src/systemd'] : [])];
  return (await virtualMachine(kernel, `virtual machine with systemd, ${kernel}`, systemd, 'systemd')) && passed;
}

// node test/places/virtual-machine.js [KERNEL…] [--systemd]
if (process.argv[1] === new URL(import.meta.url).pathname) {
  const words = process.argv.slice(2);
  const names = words.filter((word) => !word.startsWith('--'));
  await main(async () => {
    let passed = true;
    for (const kernel of names.length ? names : Object.keys(kernels))
      passed = (await underKernel(kernel, words)) && passed;
    return passed;
  });
}
