import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';

const tools = spawnSync('sh', ['-c', 'command -v gcc && command -v aarch64-linux-gnu-as'], { encoding: 'utf8' });

it.skipIf(tools.status !== 0)(
  'numbers and machine code are what headers and assembly say [needs gcc and binutils-aarch64-linux-gnu]',
  () => {
    const script = new URL('../scripts/generate.js', import.meta.url).pathname;
    const { status, stderr } = spawnSync(process.execPath, [script, '--check'], { encoding: 'utf8' });
    expect(status, stderr).toBe(0);
  },
);

it.skipIf(tools.status !== 0)(
  'flags and structure layouts are those of the headers [needs gcc and binutils-aarch64-linux-gnu]',
  { timeout: 60_000 },
  () => {
    const script = new URL('../scripts/headers.js', import.meta.url).pathname;
    const { status, stdout, stderr } = spawnSync(process.execPath, [script], { encoding: 'utf8' });
    expect(status, stderr).toBe(0);
    const compared = Number(/^x64: (\d+) compared/m.exec(stdout)?.[1]);
    expect(compared, stdout).toBeGreaterThan(100);
    // Without arm64's own headers there is nothing to compare with.
    const arm64 = /^arm64: (?:not compared|(\d+) compared)/m.exec(stdout);
    expect([undefined, String(compared)]).toContain(arm64?.[1]);
  },
);
