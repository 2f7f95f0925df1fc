import { expect, it } from 'vitest';
import { parseDuration } from './duration.js';

it.each([
  ['1m30s', 90_000],
  ['500ms', 500],
  ['1.5h', 5_400_000],
  ['.5s', 500],
  ['1.s', 1000],
  ['250us', 0.25],
  ['0', 0],
  ['0s', 0],
  // What Go's time.ParseDuration() refuses, or docker because it is below 0.
  ['', undefined],
  ['5', undefined],
  ['s', undefined],
  ['.s', undefined],
  ['1 s', undefined],
  ['1d', undefined],
  ['-1s', undefined],
])('the duration %j', (text, ms) => expect(parseDuration(text)).toBe(ms));
