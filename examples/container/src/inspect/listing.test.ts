import { describe, expect, it } from 'vitest';
import { listing } from './listing.js';

const rows = [
  { Names: 'web', State: 'running' },
  { Names: 'b', State: 'exited' },
];

describe('a listing', () => {
  // What docker prints for the same.
  it.each([
    ['table', ['NAMES   STATE', 'web     running', 'b       exited']],
    ['json', ['{"Names":"web","State":"running"}', '{"Names":"b","State":"exited"}']],
    ['{{.Names}} is {{.State}}', ['web is running', 'b is exited']],
    ['table {{.State}}\\t{{.Names}}', ['STATE     NAMES', 'running   web', 'exited    b']],
  ])('%s', (how, lines) => {
    const columns = [
      ['NAMES', 'Names'],
      ['STATE', 'State'],
    ] as const;
    expect(listing(rows, how, columns)).toEqual(lines);
  });
});
