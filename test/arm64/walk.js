// One launch table of rows: written as the project writes it, walked by the committed arm64 code in harness.S under qemu.
// The child is a plain fork, the table a file that it and the harness share with us.
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LinuxKernel, replaceKernel } from '../../packages/sys/src/kernel.ts';
import { code, launch } from '../../packages/sys/src/launcher/arm64.ts';
import { row as rowOf } from '../../packages/sys/src/launcher/step.ts';
import { FRAME, STEP, writeTable } from '../../packages/sys/src/launcher/table.ts';
import { numbers } from '../../packages/sys/src/raw/numbers-arm64.ts';

const [scratch, qemu] = process.argv.slice(2);
// Above 4 GiB, so that the table's addresses need both halves of a word; free here and under qemu.
const BASE = 0x200000000;
const SIZE = 64 * 1024;
export const SIGCHLD = 17;

// The arena is mapped at an address that the harness can have too.
replaceKernel(
  new (class extends LinuxKernel {
    call(name, args) {
      return super.call(name, name === 'mmap' ? [BASE, ...args.slice(1)] : args);
    }
  })(),
);

const image = join(scratch, 'table');
const harness = join(scratch, 'harness');
writeFileSync(join(scratch, 'launcher.bin'), Buffer.from(code, 'hex'));
const symbols = Object.entries({ BASE, SIZE, LAUNCH: launch }).map(([name, value]) => `--defsym=${name}=${value}`);
const source = new URL('harness.S', import.meta.url).pathname;
const tool = (name, args) => execFileSync(`aarch64-linux-gnu-${name}`, args);
tool('as', [...symbols, '-I', scratch, source, '-o', `${harness}.o`]);
tool('ld', ['-o', harness, `${harness}.o`]);

/** A row; its jumps are set afterwards, as they lead forward. */
export function row(syscall, args = [], options = {}) {
  return rowOf('host', syscall, args, options);
}

/** Runs rows in a child, with exit(0) behind them. Returns what the child and the harness left in the table. */
export function walk(steps, outputs = [], { flags = SIGCHLD } = {}) {
  const all = [...steps, row('exit', [0])];
  const program = { steps: all, outputs, readers: new Map() };
  const { arena, frame, steps: first } = writeTable(program, (name) => numbers[name]);
  if (frame !== BASE) throw new Error('no memory at the address that the harness maps');
  arena.set(frame, numbers.clone);
  for (const [i, value] of [flags, 0, 0, 0, 0].entries()) arena.set(frame + FRAME.args + 8 * i, value);
  writeFileSync(image, arena.read(BASE, SIZE));
  arena.release();
  const { status, signal, stdout, stderr } = spawnSync(qemu, [harness, image], { encoding: 'utf8', timeout: 20_000 });
  if (status !== 0) throw new Error(`the harness ended with ${status ?? signal}: ${stderr}`);
  const memory = readFileSync(image);
  const at = (address) => Number(memory.readBigInt64LE(address - BASE));
  const failed = at(frame + FRAME.failed);
  for (const output of outputs)
    output.bytes = memory.subarray(output.address - BASE, output.address - BASE + output.size);
  return {
    pid: at(frame + 88),
    waited: at(frame + 96),
    status: at(frame + 104),
    preserved: at(frame + 112) === 1,
    mask: at(frame + 120),
    failed: failed ? (failed - first) / STEP.size : undefined,
    errno: at(frame + FRAME.errno),
    stdout,
    // Results of the rows, undefined where the walk did not come by; not of the exit.
    results: steps.map((_, i) =>
      at(first + i * STEP.size + STEP.reached) ? at(first + i * STEP.size + STEP.result) : undefined,
    ),
    tries: steps.map((_, i) => at(first + i * STEP.size + STEP.tries)),
  };
}
