import { fstatSync } from 'node:fs';
import type { Fd } from '../fd.js';
import { CLONE } from '../raw/flags.js';
import { attempt } from '../syscall.js';
import type { Step } from './step.js';

/** A namespace that the joined user namespace owns can be joined after it only, any other before it only. */
export function joinOrder(steps: readonly Step[]): Step[] {
  const user = steps.find((step) => step.args[1] === CLONE.NEWUSER);
  if (!user || steps.length === 1) return [...steps];
  const home = fstatSync((user.args[0] as Fd).number).ino;
  const inside = steps.filter((step) => step !== user && owner(step.args[0] as Fd) === home);
  return [...steps.filter((step) => step !== user && !inside.includes(step)), user, ...inside];
}

/** Inode of the user namespace that owns a namespace; undefined where it is above our own. */
function owner(namespace: Fd): number | undefined {
  const fd = attempt('ioctl', namespace, NS_GET_USERNS);
  if (fd < 0) return undefined;
  try {
    return fstatSync(fd).ino;
  } finally {
    attempt('close', fd);
  }
}

const NS_GET_USERNS = 0xb701;
