// The stages of `npm test`: what ran, how long, and what was skipped why.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect, stripVTControlCharacters } from 'node:util';

/** A stage that this machine cannot run: the reason is printed, nothing has failed. */
export class Skip extends Error {}

const results = [];

/** What the stage that runs has said so far. */
let said = '';

/** Prints what belongs to the stage that runs. */
export function say(text) {
  process.stdout.write(text);
  said += text;
}

/**
 * Runs a stage and remembers how it went.
 *
 * @param {string} name for the headline
 * @param {string[] | (() => boolean | Promise<boolean>)} work a command, or a function that says whether all passed
 */
export async function stage(name, work) {
  console.log(`\n== ${name}`);
  said = '';
  const start = Date.now();
  const result = { name, ok: false, skipped: undefined };
  try {
    result.ok = await (Array.isArray(work) ? command(work) : work());
  } catch (error) {
    if (error instanceof Skip) {
      result.skipped = error.message;
      console.log(`skipped: ${error.message}`);
    } else say(`${inspect(error)}\n`);
  }
  results.push({ ...result, said, seconds: (Date.now() - start) / 1000 });
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
    say(output);
    say(`it ran beside the stages above, ${((Date.now() - start) / 1000).toFixed(0)} s until it was asked for\n`);
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
export async function command([file, ...args], options = {}) {
  const child = spawn(file, args, { stdio: ['inherit', 'pipe', 'pipe'], ...options });
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', say);
  const [code] = await once(child, 'close');
  return code === 0;
}

/** The lines that say why, of all that a stage printed: they stand at the end of a long log, where one looks first. */
function reasons(said) {
  const lines = stripVTControlCharacters(said)
    .split('\n')
    .filter((line) => line.trim() && !line.startsWith('skipped  '));
  const failed = lines.filter((line) => /^ *(FAIL|×) /.test(line)).slice(-10);
  return [...failed, ...lines.slice(-15)];
}

/** Prints how every stage went, and why where one failed; whether none failed. */
export function summary() {
  console.log('\n== summary');
  for (const { name, ok, skipped, seconds } of results) {
    const verdict = skipped ? `skipped (${skipped})` : ok ? 'passed' : 'FAILED';
    console.log(`${verdict}  ${name}  ${seconds.toFixed(0)} s`);
  }
  const failed = results.filter(({ ok, skipped }) => !ok && !skipped).length;
  console.log(`${results.filter(({ ok }) => ok).length} passed, ${failed} failed`);
  for (const { name, ok, skipped, said } of results)
    if (!ok && !skipped) console.log(`\n== why: ${name}\n${reasons(said).join('\n')}`);
  return failed === 0;
}
