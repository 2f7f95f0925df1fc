import { fstatSync } from 'node:fs';
import type { Fd } from '../fd.js';
import { CLONE } from '../raw/flags.js';
import { attempt } from '../syscall.js';
import type { Step } from './step.js';

/** What belongs to the joined user namespace, or to one below it, can be joined after it only, any other before it only. */
export function joinOrder(steps: readonly Step[]): Step[] {
  const user = steps.find((step) => step.args[1] === CLONE.NEWUSER);
  if (!user || steps.length === 1) return [...steps];
  const home = fstatSync((user.args[0] as Fd).number).ino;
  const inside = steps.filter((step) => step !== user && belongs(step.args[0] as Fd, home));
  return [...steps.filter((step) => step !== user && !inside.includes(step)), user, ...inside];
}

/** Whether the user namespace that owns a namespace, or one above that, is a certain one; above our own nobody sees. */
function belongs(namespace: Fd, home: number): boolean {
  let fd = attempt('ioctl', namespace, NS_GET_USERNS);
  while (fd >= 0) {
    const found = fstatSync(fd).ino === home;
    const above = found ? -1 : attempt('ioctl', fd, NS_GET_PARENT);
    attempt('close', fd);
    if (found) return true;
    fd = above;
  }
  return false;
}

const NS_GET_USERNS = 0xb701;
const NS_GET_PARENT = 0xb702;
