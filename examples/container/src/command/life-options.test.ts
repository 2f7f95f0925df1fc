import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, expect, it } from 'vitest';
import { parseLabels } from '../label.js';
import { type RunFlags, settled } from '../recipe.js';
import { lifeOptions } from './life-options.js';

const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('takes labels of files, those of the command line count more', () => {
  const file = join(folder, 'labels');
  writeFileSync(file, '# none\n\na=1\n  b=2\n');
  const command = lifeOptions(new Command()).parse(['-l', 'b=3', '--label-file', file, '-l', 'c'], { from: 'user' });
  const { label, ...rest } = settled('/', command.opts<RunFlags>()).flags;
  expect(parseLabels(label ?? [])).toEqual({ a: '1', b: '3', c: '' });
  expect(rest).not.toHaveProperty('labelFile');
});
