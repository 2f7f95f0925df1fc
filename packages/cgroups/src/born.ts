import { type LaunchProgram, O } from '@iso/sys';
import { isFreezing } from './freeze.js';
import type { Places } from './places.js';

/** Lets the process of a launch be born in a group: by clone(2) on v2, by a write to each v1 hierarchy before anything else. */
export function bornIn(places: Places, program: LaunchProgram): void {
  for (const directory of places.v1) {
    // Not cgroup.procs: for the one thread that writes 0 here, the kernel takes no machine-wide lock, which waits for RCU.
    const tasks = directory.openFd('tasks', O.WRONLY);
    program.defer(() => tasks.close());
    program.step('birth', 'write', [tasks, '0', 1], { text: `write(${directory.path}/tasks, "0")` });
  }
  if (places.v2) program.cgroup(places.v2.fd);
  if (isFreezing(places)) program.mayBlock();
}
