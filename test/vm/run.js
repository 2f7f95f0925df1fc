// Runs the kernel tests in virtual machines: cgroup v2 with every controller, and other kernels than this machine's.
import { kernels, runInVm } from './vm.js';

const cli = new URL('../../examples/container/dist/cli.js', import.meta.url).pathname;
const vitest = ['node_modules/vitest/vitest.mjs', 'run', '--project', 'kernel', '--testTimeout', '120000'];
const wanted = process.argv.slice(2);
let failed = 0;
for (const kernel of wanted.length ? wanted : Object.keys(kernels).slice(0, 1)) {
  try {
    const { exitCode, seconds } = await runInVm({
      kernel,
      command: ['env', `ISO_CLI=${cli}`, process.execPath, ...vitest],
      timeoutMs: 780_000,
      onStdout: (chunk) => process.stdout.write(chunk),
      onStderr: (chunk) => process.stderr.write(chunk),
      onReady: ({ release, bootSeconds }) => console.log(`Linux ${release}, booted in ${bootSeconds.toFixed(1)} s`),
    });
    console.log(`${kernel}: exit code ${exitCode} after ${seconds.toFixed(0)} s`);
    if (exitCode !== 0) failed += 1;
  } catch (error) {
    if (error.code !== 'VM_UNAVAILABLE') throw error;
    console.log(`${kernel}: skipped: ${error.message}`);
  }
}
process.exitCode = failed ? 1 : 0;
