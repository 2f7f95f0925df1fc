// The kernel tests as a plain user.
import { has } from '../machine.js';
import { Skip } from '../stage.js';
import { builtCommand, kernelTests, vitest } from '../vitest.js';
import { withCopy } from './copy.js';

const NOBODY = 65534;
const copy = '/var/tmp/iso-test-plain-user';

/** What asks for no privilege is the same for everybody: these on the long run only. */
const same =
  /sys\/src\/(watcher|launcher\/(faults|launch\.))|process\/src\/(failure|stdio)|container\/src\/(foreground|killed|supervise|completion|bad-input|state\/record)/;

export function plainUser() {
  if (process.getuid() !== 0) throw new Skip('this already is one');
  if (!has('setpriv')) throw new Skip('setpriv is missing');
  const before = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', '--inh-caps=-all'];
  const how = { before, cwd: copy, env: { HOME: copy, ...builtCommand(copy) } };
  const files = kernelTests().filter((file) => process.env.ISO_LONG || !same.test(file));
  return withCopy(copy, NOBODY, vitest('plain user', { projects: ['kernel'], files }, how));
}
