import { setTimeout as sleep } from 'node:timers/promises';
import { KernelError } from '@iso/sys';

const PATIENCE = 3000;
const PAUSE = 20;

/** A kernel that has much to do looks at carriers once a second. */
const LONGEST = 1500;

/**
 * Waits for what the kernel does soon, and no longer where it does not: a link whose other end somebody has switched off.
 *
 * @param done - whether it has
 * @param signal - gives up
 * @throws the signal's reason
 */
export async function untilIt(done: () => Promise<boolean>, signal?: AbortSignal): Promise<void> {
  for (
    let waited = 0, pause = 1;
    waited < LONGEST && !(await done());
    waited += pause, pause = Math.min(2 * pause, PAUSE)
  )
    await sleep(pause, undefined, signal && { signal });
}

/**
 * Switches a link on whose MAC somebody on the same wire may have: a link of a namespace that is gone has it until the kernel has cleaned up
 * after that, which takes milliseconds.
 *
 * @param up - switches it on
 * @param call - what the error says of it
 * @param signal - gives up
 * @throws KernelError `EADDRINUSE` where the MAC is still in use after three seconds; the signal's reason
 */
export async function onceFree(up: () => Promise<void>, call: string, signal?: AbortSignal): Promise<void> {
  for (let left = PATIENCE; ; left -= PAUSE) {
    try {
      return await up();
    } catch (error) {
      if (!KernelError.is(error, 'EADDRINUSE')) throw error;
      if (left <= 0) {
        const hint = `another link on the same wire has this MAC, for more than ${PATIENCE / 1000} s`;
        throw new KernelError(error.errno, { syscall: 'sendto', call, hint, cause: error });
      }
    }
    await sleep(PAUSE, undefined, signal && { signal });
  }
}
