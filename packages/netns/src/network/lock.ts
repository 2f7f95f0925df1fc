import { readFileSync, writeSync } from 'node:fs';
import { attempt, Fd, KernelError, O, syscall } from '@iso/sys';

const LOCK_EX = 2;
const LOCK_NB = 4;
const EWOULDBLOCK = -11;
const ETIMEDOUT = 110;
/** What is done under a lock takes milliseconds. */
const PATIENCE = 10_000;

/**
 * Does something that no other process does at the same time, nor another worker of this one. The kernel unlocks what a killed process had
 * locked: flock(2).
 *
 * @param path - a file that is made for it, and stays
 * @param work - must not wait for anything
 * @returns what `work` returns
 * @throws KernelError `ETIMEDOUT` where somebody holds the lock for ten seconds: the hint says who
 */
export function locked<T>(path: string, work: () => T): T {
  // It would wait for itself.
  if (held.has(path)) throw new Error(`${path} is locked by this thread already`);
  using file = Fd.open(path, { flags: O.RDWR | O.CREAT | O.CLOEXEC, mode: 0o600 });
  const start = performance.now();
  for (let pause = 0; ; pause = Math.min(pause + 0.2, 5)) {
    const refusal = attempt('flock', file, LOCK_EX | LOCK_NB);
    if (refusal === 0) break;
    if (refusal !== EWOULDBLOCK) throw new KernelError(refusal, { syscall: 'flock', path });
    if (performance.now() - start > PATIENCE) {
      const holder = readFileSync(path, 'latin1').trim();
      throw new KernelError(ETIMEDOUT, { syscall: 'flock', path, hint: `process ${holder} holds the lock` });
    }
    // Whoever has it is another thread or process, which goes on meanwhile.
    Atomics.wait(idle, 0, 0, pause);
  }
  held.add(path);
  try {
    syscall('ftruncate', file, 0);
    writeSync(file.number, `${process.pid}\n`, 0);
    return work();
  } finally {
    held.delete(path);
  }
}

const held = new Set<string>();
const idle = new Int32Array(new SharedArrayBuffer(4));
