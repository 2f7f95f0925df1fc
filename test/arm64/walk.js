// One launch table of rows: written as the project writes it, walked by the committed arm64 code in harness.S under qemu.
// The child is a plain fork, the table a file that it and the harness share with us.
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LinuxKernel, replaceKernel } from '../../packages/sys/src/kernel.ts';
import * as arm64 from '../../packages/sys/src/launcher/arm64.ts';
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
writeFileSync(join(scratch, 'launcher.bin'), Buffer.from(arm64.code, 'hex'));

/** A program that enters the code there. */
function assemble(name, ENTRY) {
  const harness = join(scratch, name);
  const symbols = Object.entries({ BASE, SIZE, ENTRY }).map(([symbol, value]) => `--defsym=${symbol}=${value}`);
  const source = new URL('harness.S', import.meta.url).pathname;
  const tool = (command, args) => execFileSync(`aarch64-linux-gnu-${command}`, args);
  tool('as', [...symbols, '-I', scratch, source, '-o', `${harness}.o`]);
  tool('ld', ['-o', harness, `${harness}.o`]);
  return harness;
}
const launches = assemble('launches', arm64.launch);
const walks = assemble('walks', arm64.walk);

/** A row; its jumps are set afterwards, as they lead forward. */
export function row(syscall, args = [], options = {}) {
  return rowOf('host', syscall, args, options);
}

/**
 * Runs rows in a child, with exit(0) behind them; with `here` in the harness itself, with a call behind them that there is not. Returns
 * what the child and the harness left in the table.
 */
export function walk(steps, outputs = [], { flags = SIGCHLD, here = false } = {}) {
  const all = [...steps, row('exit', [0])];
  const program = { steps: all, outputs, readers: new Map() };
  const { arena, frame, steps: first } = writeTable(program, (name) => numbers[name]);
  if (arena.addressOf(frame) !== BASE) throw new Error('no memory at the address that the harness maps');
  arena.set(frame, numbers.clone);
  for (const [i, value] of [flags, 0, 0, 0, 0].entries()) arena.set(frame + FRAME.args + 8 * i, value);
  if (here) {
    arena.set(frame + FRAME.here, 1);
    arena.set(first + steps.length * STEP.size + STEP.nr, -1);
  }
  writeFileSync(image, arena.read(0, SIZE));
  arena.release();
  const { status, signal, stdout, stderr } = spawnSync(qemu, [here ? walks : launches, image], {
    encoding: 'utf8',
    timeout: 20_000,
  });
  if (status !== 0) throw new Error(`the harness ended with ${status ?? signal}: ${stderr}`);
  const memory = readFileSync(image);
  const at = (place) => Number(memory.readBigInt64LE(place));
  const failed = at(frame + FRAME.failed);
  for (const output of outputs) output.bytes = memory.subarray(output.place, output.place + output.size);
  return {
    pid: at(frame),
    waited: at(frame + 96),
    status: at(frame + 104),
    preserved: at(frame + 112) === 1,
    mask: at(frame + 120),
    failed: failed ? (failed - BASE - first) / STEP.size : undefined,
    errno: at(frame + FRAME.errno),
    stdout,
    // Results of the rows, undefined where the walk did not come by; not of the exit.
    results: steps.map((_, i) =>
      at(first + i * STEP.size + STEP.reached) ? at(first + i * STEP.size + STEP.result) : undefined,
    ),
    tries: steps.map((_, i) => at(first + i * STEP.size + STEP.tries)),
  };
}
