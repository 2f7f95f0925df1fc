import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import type { DriverName } from '../driver/driver.js';
import type { DriverOptions } from '../driver/probe.js';
import { type ConformanceCase, conformance } from '../testsuite/index.js';

/** Milliseconds that a driver has for all cases: those of a program, or on an emulated processor, take minutes. */
export const PATIENCE = process.env.ISO_LONG ? 1_800_000 : 240_000;

/** On what was built: from the sources, the worker thread of each layer would first compile them. */
const SCRIPT = `
import { readdirSync } from 'node:fs';
import { openDriver } from '@iso/unionfs';
import { conformance } from '@iso/unionfs/testsuite';
const [name, root, options, omit, run] = process.argv.slice(1);
const cases = conformance.filter((one) => !omit || !new RegExp(omit).test(one.name));
{
  const driver = openDriver(name, root, JSON.parse(options));
  for (const { name: title, run: act } of cases) {
    try {
      await act(driver, JSON.parse(run));
      const left = readdirSync(root).filter((file) => !file.startsWith('.'));
      console.log(left.length ? 'left ' + left + ' after' : 'passed', title);
    } catch (error) {
      console.log('failed', title, error);
    }
  }
  driver[Symbol.dispose]();
}`;

/**
 * Runs a driver's cases in a process of its own.
 *
 * @param name - of the driver
 * @param root - directory that is made for its layers
 * @param options - `driver`: its options; `omit`: pattern of cases to leave out; `before`: command that runs the process; `run`: what
 * the cases are told
 * @returns what it says of each case
 */
export function conform(
  name: DriverName,
  root: string,
  {
    driver = {},
    omit = '',
    before = [],
    run = {},
  }: { driver?: DriverOptions; omit?: string; before?: string[]; run?: Parameters<ConformanceCase['run']>[1] } = {},
): string[] {
  mkdirSync(root, { recursive: true });
  const node = [process.execPath, '--input-type=module', '-e', SCRIPT];
  const command = [...before, ...node, name, root, JSON.stringify(driver), omit, JSON.stringify(run)];
  const { stdout, stderr } = spawnSync(command[0] as string, command.slice(1), {
    encoding: 'utf8',
    timeout: PATIENCE,
    killSignal: 'SIGKILL',
    cwd: import.meta.dirname,
    // Node's own options of the test runner would lead to the sources again.
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  return `${stdout}${stderr}`.trim().split('\n');
}

/** What a plain user has no privilege for in a user namespace that maps nobody else: other owners, devices. No matter of a driver. */
export const PRIVILEGED = 'keeps all|owners and modes|mode and owner';

/**
 * A command before another one that makes it a plain user's, in a user namespace of its own.
 *
 * @param directory - made where it is not there, and given to that user; others can look into the one above
 * @param first - shell commands that root does before, in a mount namespace that ends with the command
 * @returns for `before` of {@link conform}
 */
export function asPlainUser(directory: string, first = 'true'): string[] {
  const script = `${first} && mkdir -p "$1" && chmod 711 "$1/.." && chown 65534:65534 "$1" && shift &&
    exec setpriv --reuid 65534 --regid 65534 --clear-groups unshare -Urm "$@"`;
  return ['unshare', '-m', '--propagation', 'private', 'sh', '-c', script, 'sh', directory];
}

/** What {@link conform} says where all is well. */
export function passed(omit?: string): string[] {
  return conformance
    .map(({ name }) => name)
    .filter((name) => !omit || !new RegExp(omit).test(name))
    .map((name) => `passed ${name}`);
}
