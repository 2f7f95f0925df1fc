import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Batch, BatchedCall } from './batch.js';
import { AT, O } from './raw/flags.js';
import { RecordingKernel } from './testing/index.js';

const EBADF = 9;
const ENOENT = 2;

it('makes calls in their order, each also after one that failed', () => {
  const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
  try {
    const path = join(folder, 'file');
    const text = Buffer.from('one batch');
    const back = Buffer.alloc(32);
    const batch = new Batch();
    const missing = batch.add('openat', AT.FDCWD, join(folder, 'none'), O.RDONLY | O.CLOEXEC, 0);
    const unread = batch.add('read', missing, back, back.length);
    const file = batch.add('openat', AT.FDCWD, path, O.RDWR | O.CREAT | O.CLOEXEC, 0o600);
    const written = batch.add('pwrite64', file, text, text.length, 0);
    const read = batch.add('pread64', file, back, back.length, 4);
    const closed = batch.add('close', file);
    expect(batch.size).toBe(6);
    batch.run();
    expect([missing.result, unread.result]).toEqual([-ENOENT, -EBADF]);
    expect(file.result).toBeGreaterThan(2);
    expect([written.result, read.result, closed.result]).toEqual([9, 5, 0]);
    expect(back.toString('utf8', 0, 5)).toBe('batch');
    expect(readFileSync(path, 'utf8')).toBe('one batch');
  } finally {
    rmSync(folder, { recursive: true });
  }
});

it('runs again, with the calls that came since and what the buffers hold then', () => {
  const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
  try {
    const path = join(folder, 'file');
    writeFileSync(path, 'first');
    const back = Buffer.alloc(16);
    const batch = new Batch();
    const file = batch.add('openat', AT.FDCWD, path, O.RDONLY | O.CLOEXEC, 0);
    const read = batch.add('read', file, back, back.length);
    batch.add('close', file);
    batch.run();
    expect(back.toString('utf8', 0, read.result)).toBe('first');
    writeFileSync(path, 'the second');
    const again = batch.add('read', file, back, 1);
    batch.run();
    expect(back.toString('utf8', 0, read.result)).toBe('the second');
    expect(again.result).toBe(-EBADF);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

it('gives results beyond 32 bits', () => {
  const batch = new Batch();
  const mapped = batch.add('mmap', 0, 4096, 3, 0x22, -1, 0);
  const unmapped = batch.add('munmap', mapped, 4096);
  batch.run();
  expect(mapped.result).toBeGreaterThan(2 ** 32);
  expect(unmapped.result).toBe(0);
});

it('of nothing does nothing', () => {
  const batch = new Batch();
  batch.run();
  expect(batch.size).toBe(0);
});

it('gives a kernel that plays each call by itself', () => {
  const kernel = new RecordingKernel().answer('openat', 77).fail('read', 'EIO');
  const batch = new Batch();
  const file = batch.add('openat', AT.FDCWD, '/etc/hostname', 0, 0);
  const read = batch.add('read', file, new Uint8Array(8), 8);
  kernel.run(() => batch.run());
  expect(kernel.calls.map(({ name, args }) => [name, args[0]])).toEqual([
    ['openat', AT.FDCWD],
    ['read', 77],
  ]);
  expect([file.result, read.result]).toEqual([77, -5]);
});

it.each<[string, (batch: Batch) => void, RegExp]>([
  ['a call that changes the thread', (batch) => batch.add('setuid', 0), /calling thread alone/],
  ['a fraction', (batch) => batch.add('close', 1.5), /64-bit integer/],
  ['a string with a NUL', (batch) => batch.add('unlinkat', AT.FDCWD, 'a\0b', 0), /NUL/],
  ['seven arguments', (batch) => batch.add('read', 1, 2, 3, 4, 5, 6, 7), /six arguments/],
  ['an unknown call', (batch) => batch.add('frobnicate' as never), /frobnicate/],
  ['a call of another batch', (batch) => batch.add('close', new Batch().add('getpid')), /not of this batch/],
  ['a call of none', (batch) => batch.add('close', new BatchedCall('getpid', [])), /not of this batch/],
])('refuses %s, and stays as it was', (_, add, message) => {
  const batch = new Batch();
  const pid = batch.add('getpid');
  expect(() => add(batch)).toThrow(message);
  batch.run();
  expect([batch.size, pid.result]).toEqual([1, process.pid]);
});
