// The kernel tests on this machine, as whoever this is.
import { spawnSync } from 'node:child_process';
import { main } from '../stage.js';
import { builtCommand, kernelTests, vitest } from '../vitest.js';
import { withCopy } from './copy.js';

const all = kernelTests();
/** Tests that share nothing with the others: no cgroups, loop devices or names of the machine. They run at the same time. */
const apart = all.filter(
  (file) =>
    /^packages\/(sys|process|namespaces|mounts|unionfs|capabilities|seccomp|landlock|netns)\//.test(file) &&
    !/testing\/ledger|launcher\/(faults|launch-async|stillborn)|sys\/src\/watcher|process\/src\/failure|unionfs\/src\/(driver|store\/(check|quota))/.test(
      file,
    ),
);
const together = all.filter((file) => !apart.includes(file));

/** The tests of what is one for the whole machine. */
export function thisMachine() {
  return run('this machine', together, '/var/tmp/iso-test-this-machine');
}

/** The others. As root in a mount namespace of their own: the ledger of the first does not see their mounts. */
function thisMachineApart() {
  return run('this machine, apart', apart, '/var/tmp/iso-test-apart', {
    before: process.getuid() === 0 ? ['unshare', '--mount', '--propagation', 'private'] : [],
    env: { ISO_LEDGER: 'own' },
  });
}

function run(place, files, copy, { before = [], env = {} } = {}) {
  const what = { projects: ['kernel'], files };
  const how = (root) => ({ before, env: { ...env, ...builtCommand(root) } });
  if (process.getuid() !== 0 || othersCanRead(process.cwd())) return vitest(place, what, how(process.cwd()))();
  console.log(`Other users cannot read this clone, and some tests become one: they run in ${copy}.`);
  return withCopy(copy, 0, vitest(place, what, { ...how(copy), cwd: copy }));
}

function othersCanRead(folder) {
  const NOBODY = 65534;
  return spawnSync('test', ['-r', `${folder}/package.json`], { uid: NOBODY, gid: NOBODY }).status === 0;
}

if (process.argv[1] === new URL(import.meta.url).pathname) await main(thisMachineApart);
