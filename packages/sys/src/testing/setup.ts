// Around every kernel test: what a test leaves behind fails it.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect } from 'vitest';
import { difference, type Ledger, ledger } from './ledger.js';

let before: Ledger = [];

beforeEach(() => {
  before = ledger();
});

afterEach(async () => {
  let changed = difference(before, ledger());
  // Sockets and children of Node itself go away on a later turn of its loop.
  for (let i = 0; changed.length > 0 && i < 100; i++) {
    await sleep(20);
    changed = difference(before, ledger());
  }
  expect(changed, 'left behind').toEqual([]);
});
