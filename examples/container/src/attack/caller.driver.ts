// Started with all that a caller may have by accident: variables, groups, inheritable capabilities, open descriptors, a mask of
// nothing. Prints what of it a container sees, a command in one, and a child of Node's own, which is no container.
import { spawnSync } from 'node:child_process';
import { run } from '../index.js';
import { output } from './fixture.js';

const look = [
  'sh',
  '-c',
  "grep -E '^(CapInh|CapAmb|Groups|Umask):' /proc/self/status; env | grep SECRET; for i in 3 4 20 21; do test -e /proc/$$/fd/$i && echo fd $i; done; cat /proc/self/fd/21 2>/dev/null; true",
] as const;
await using box = await run({ root: '/', command: ['sleep', '60'] });
const inside = await output(await run({ root: '/', command: look }));
const child = await box.exec(look);
const within = await output({ child, exited: child.exited });
const plain = spawnSync(look[0], look.slice(1), { encoding: 'utf8' }).stdout;
process.stdout.write(JSON.stringify({ inside, within, plain }));
