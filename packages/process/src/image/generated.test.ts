import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';

const tools = spawnSync('sh', ['-c', 'command -v as && command -v aarch64-linux-gnu-as'], { encoding: 'utf8' });

it.skipIf(tools.status !== 0)('init and gate are what their sources say [needs binutils-aarch64-linux-gnu]', () => {
  const script = new URL('../../scripts/generate.js', import.meta.url).pathname;
  const { status, stderr } = spawnSync(process.execPath, [script, '--check'], { encoding: 'utf8' });
  expect(status, stderr).toBe(0);
});
