// Runs every TypeScript example of the documents. A fence may say `root` (needs root) or `no-run: why`.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const home = join(import.meta.dirname, '..');
const scratch = join(home, 'node_modules/.cache/iso-docs');
const documents = [
  'README.md',
  ...folder('docs')
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
  ...['packages', 'examples'].flatMap((top) => folder(top).map((name) => `${top}/${name}/README.md`)),
].filter((path) => existsSync(join(home, path)));

for (const path of documents) {
  const text = readFileSync(join(home, path), 'utf8');
  const blocks = [...text.matchAll(/^```ts([^\n]*)\n(.*?)^```$/gms)];
  if (blocks.length === 0) continue;
  describe(path, () => {
    for (const [i, block] of blocks.entries()) {
      const line = text.slice(0, block.index).split('\n').length;
      const fence = (block[1] ?? '').trim();
      const skip = fence.startsWith('no-run')
        ? fence
        : fence.includes('root') && process.getuid?.() !== 0
          ? 'needs root'
          : '';
      it.skipIf(skip)(`line ${line}${skip ? ` [${skip}]` : ''}`, () => {
        mkdirSync(scratch, { recursive: true });
        const file = join(scratch, `${path.replaceAll('/', '-')}-${i}.mts`);
        writeFileSync(file, block[2] ?? '');
        try {
          const { status, stdout, stderr } = spawnSync(
            process.execPath,
            ['--conditions=iso-source', '--import', 'tsx', file],
            { cwd: home, encoding: 'utf8', timeout: 30_000 },
          );
          expect(status, stdout + stderr).toBe(0);
        } finally {
          rmSync(file, { force: true });
        }
      });
    }
  });
}

function folder(name: string): string[] {
  return existsSync(join(home, name)) ? readdirSync(join(home, name)) : [];
}
