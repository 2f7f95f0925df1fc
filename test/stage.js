// The stages of `npm test`: what ran, how long, and what was skipped why.
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A stage that this machine cannot run: the reason is printed, nothing has failed. */
export class Skip extends Error {}

const results = [];

/**
 * Runs a stage and remembers how it went.
 *
 * @param {string} name for the headline
 * @param {string[] | (() => boolean | Promise<boolean>)} work a command, or a function that says whether all passed
 */
export async function stage(name, work) {
  console.log(`\n== ${name}`);
  const start = Date.now();
  const result = { name, ok: false, skipped: undefined };
  try {
    result.ok = await (Array.isArray(work) ? command(work) : work());
  } catch (error) {
    if (error instanceof Skip) {
      result.skipped = error.message;
      console.log(`skipped: ${error.message}`);
    } else console.error(error);
  }
  results.push({ ...result, seconds: (Date.now() - start) / 1000 });
}

/** What a command exits with that this machine cannot run, as automake's test drivers have it. */
const SKIPPED = 77;

/**
 * Starts a command that runs beside other stages.
 *
 * @param {string[]} command
 * @returns {() => Promise<boolean>} the work of a stage: waits for it and prints what it said
 */
export function background([file, ...args]) {
  const folder = mkdtempSync(join(tmpdir(), 'iso-stage-'));
  const log = join(folder, 'output');
  // A file, for nobody reads a pipe while other stages block this process.
  const fd = openSync(log, 'w');
  const start = Date.now();
  const child = spawn(file, args, { stdio: ['ignore', fd, fd] });
  closeSync(fd);
  const ended = new Promise((resolve) => child.on('exit', resolve).on('error', () => resolve(-1)));
  return async () => {
    const code = await ended;
    const output = readFileSync(log, 'utf8');
    rmSync(folder, { recursive: true });
    process.stdout.write(output);
    console.log(`it ran beside the stages above, ${((Date.now() - start) / 1000).toFixed(0)} s until it was asked for`);
    if (code === SKIPPED) throw new Skip(output.trim().split('\n').at(-1));
    return code === 0;
  };
}

/** The main of a module that is one stage of its own. */
export async function main(work) {
  try {
    process.exitCode = (await work()) ? 0 : 1;
  } catch (error) {
    if (!(error instanceof Skip)) throw error;
    console.log(error.message);
    process.exitCode = SKIPPED;
  }
}

/** Runs a command, its output here; whether it exited with 0. */
export function command([file, ...args], options = {}) {
  return spawnSync(file, args, { stdio: 'inherit', ...options }).status === 0;
}

/** Prints how every stage went; whether none failed. */
export function summary() {
  console.log('\n== summary');
  for (const { name, ok, skipped, seconds } of results) {
    const verdict = skipped ? `skipped (${skipped})` : ok ? 'passed' : 'FAILED';
    console.log(`${verdict}  ${name}  ${seconds.toFixed(0)} s`);
  }
  const failed = results.filter(({ ok, skipped }) => !ok && !skipped).length;
  console.log(`${results.filter(({ ok }) => ok).length} passed, ${failed} failed`);
  return failed === 0;
}
