// The stages of `npm test`: what ran, how long, and what was skipped why.
import { spawnSync } from 'node:child_process';

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
