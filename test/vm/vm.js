#!/usr/bin/env node
// node test/vm/vm.js --kernel bookworm -- COMMAND ARGUMENTS…

import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { runInVm } from './boot.js';
import { kernels } from './kernel.js';

export { runInVm } from './boot.js';
export { Unavailable } from './host.js';
export { kernels } from './kernel.js';

const usage = `usage: node test/vm/vm.js [options] -- COMMAND ARGUMENTS…
  --kernel NAME      ${Object.keys(kernels).join(', ')} (default: bookworm)
  --systemd          systemd is process 1, and the command its service
  --timeout SECONDS  for the whole run (default: 600)
  --results FOLDER   shared read-write with the VM under its own path
  --console          print the kernel's console too
The exit code is the command's; 124 timeout, 125 the VM crashed, 77 no VM can run here (skip).
`;

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      kernel: { type: 'string', default: 'bookworm' },
      timeout: { type: 'string', default: '600' },
      results: { type: 'string' },
      systemd: { type: 'boolean', default: false },
      console: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help || positionals.length === 0) {
    process.stderr.write(usage);
    return values.help ? 0 : 2;
  }
  const note = (line) => process.stderr.write(`[vm ${values.kernel}] ${line}\n`);
  try {
    const { exitCode, seconds } = await runInVm({
      kernel: values.kernel,
      command: positionals,
      init: values.systemd ? 'systemd' : 'command',
      timeoutMs: Number(values.timeout) * 1000,
      results: values.results,
      onStdout: (chunk) => process.stdout.write(chunk),
      onStderr: (chunk) => process.stderr.write(chunk),
      onConsole: values.console ? (chunk) => process.stderr.write(chunk) : undefined,
      onReady: ({ release, bootSeconds }) => note(`Linux ${release}, booted in ${bootSeconds.toFixed(1)} s`),
    });
    note(`exit code ${exitCode} after ${seconds.toFixed(1)} s`);
    return exitCode;
  } catch (error) {
    note(error.code === 'VM_UNAVAILABLE' ? `skipped: ${error.message}` : error.message);
    return { VM_UNAVAILABLE: 77, VM_TIMEOUT: 124, VM_CRASHED: 125 }[error.code] ?? 2;
  }
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  process.exitCode = await main();
}
