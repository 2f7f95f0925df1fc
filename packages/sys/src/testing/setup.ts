// Around every kernel test: what a test leaves behind fails it.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect } from 'vitest';
import { difference, type Ledger, ledger } from './ledger.js';

let before: Ledger = [];

/** A zombie that is gone was of a test before, and waited for. */
const left = () => difference(before, ledger()).filter((line) => !line.startsWith('- zombie '));

beforeEach(() => {
  before = ledger();
});

afterEach(async () => {
  let changed = left();
  // Sockets and children of Node itself go away on a later turn of its loop.
  for (let i = 0; changed.length > 0 && i < 100; i++) {
    await sleep(20);
    changed = left();
  }
  expect(changed, 'left behind').toEqual([]);
});
