import { readSync } from 'node:fs';
import { attempt, type Fd, O, UnsupportedError } from '@iso/sys';
import type { CgroupDirectory } from '../raw/directory.js';
import { choice } from '../value.js';

/** The highest use of memory since {@link PeakWindow.reset}. */
export interface PeakWindow extends Disposable {
  /** Bytes. */
  readonly peak: number;
  /** Starts a new window at what is used now. */
  reset(): void;
}

/** Opens a window on the peak. */
export function openPeak(directory: CgroupDirectory, of: 'memory' | 'swap'): PeakWindow {
  choice(of, 'of', ['memory', 'swap']);
  const legacy = directory.version === 1;
  if (legacy && of === 'swap') throw new UnsupportedError('memory.swap.peak', 'v1 counts swap together with memory');
  const name = legacy ? 'memory.max_usage_in_bytes' : of === 'swap' ? 'memory.swap.peak' : 'memory.peak';
  if (!directory.has(name)) throw new UnsupportedError(name, 'the kernel has no such file');
  const window = new Window(directory.openFd(name, O.RDWR), name, legacy ? '0' : 'reset');
  try {
    window.reset();
  } catch (error) {
    window[Symbol.dispose]();
    throw error;
  }
  return window;
}

class Window implements PeakWindow {
  readonly #fd: Fd;
  readonly #name: string;
  readonly #word: string;

  constructor(fd: Fd, name: string, word: string) {
    this.#fd = fd;
    this.#name = name;
    this.#word = word;
  }

  get peak(): number {
    const text = Buffer.alloc(32);
    return Number(text.toString('latin1', 0, readSync(this.#fd.number, text, 0, 32, 0)));
  }

  reset(): void {
    const result = attempt('pwrite64', this.#fd, this.#word, this.#word.length, 0);
    if (result < 0) {
      throw new UnsupportedError(this.#name, 'the kernel refused to reset it for one descriptor', { since: '6.12' });
    }
  }

  [Symbol.dispose](): void {
    this.#fd.close();
  }
}
