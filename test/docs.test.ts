// Runs every TypeScript example of the documents and of the docstrings. A fence may say `root` (needs root) or `no-run: why`.
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fromSources } from './typescript.js';

interface Example {
  /** Path of the document and line in it. */
  readonly where: string;
  readonly code: string;
  /** Why it does not run here. */
  readonly skip: string;
}

const home = join(import.meta.dirname, '..');
const below = (folder: string) => readdirSync(join(home, folder), { recursive: true, encoding: 'utf8' });
const isSource = (path: string) => path.endsWith('.ts') && !path.endsWith('.test.ts');

/** The documents by the folder that they belong to: its examples run in one process. */
const documents: Record<string, string[]> = {
  '.': ['README.md', ...below('docs').flatMap((name) => (/^[^/]+\.md$/.test(name) ? [`docs/${name}`] : []))],
};
for (const top of ['packages', 'examples']) {
  for (const name of readdirSync(join(home, top))) {
    const folder = `${top}/${name}`;
    documents[folder] = [
      `${folder}/README.md`,
      ...below(`${folder}/src`)
        .filter(isSource)
        .sort()
        .map((path) => `${folder}/src/${path}`),
    ];
  }
}

/** Where the modules lie while they run: inside the repository, so that they find the packages. */
const scratch = join(home, 'node_modules/.cache/iso-examples');

for (const [folder, paths] of Object.entries(documents)) {
  const examples = paths.flatMap(examplesOf);
  if (examples.length === 0) continue;
  describe(folder, () => {
    const failures = new Map<string, string | null>();
    let work = '';
    beforeAll(async () => {
      mkdirSync(scratch, { recursive: true });
      work = mkdtempSync(join(scratch, 'run-'));
      const files = new Map<string, string>();
      for (const [i, { where, code, skip }] of examples.entries()) {
        const file = join(work, `${i}.mts`);
        writeFileSync(file, code);
        if (!skip) files.set(file, where);
      }
      const { lines, rest } = await runAll([...files.keys()]);
      for (const { file, error } of lines) failures.set(files.get(file) as string, error);
      for (const where of files.values()) if (!failures.has(where)) failures.set(where, `it did not end\n${rest}`);
    }, 300_000);
    afterAll(() => rmSync(work, { recursive: true, force: true }));

    for (const { where, skip } of examples) {
      // Without the line, which a change above it would move: the list of skips has these names.
      it.skipIf(skip)(skip ? `${where.replace(/, line \d+$/, '')} [${skip}]` : where, () => {
        expect(failures.get(where)).toBe(null);
      });
    }
  });
}

/** The fenced blocks of a document, or of the docstrings of a source. */
function examplesOf(path: string): Example[] {
  const text = readFileSync(join(home, path), 'utf8');
  const fence = isSource(path) ? /^ *\* ```ts([^\n]*)\n(.*?)^ *\* ```$/gms : /^```ts([^\n]*)\n(.*?)^```$/gms;
  return [...text.matchAll(fence)].map((block) => {
    const said = (block[1] ?? '').trim();
    const needsRoot = said.includes('root') && process.getuid?.() !== 0;
    return {
      where: `${path}, line ${text.slice(0, block.index).split('\n').length}`,
      code: isSource(path) ? (block[2] ?? '').replace(/^ *\* ?/gm, '') : (block[2] ?? ''),
      skip: said.startsWith('no-run') ? said : needsRoot ? 'needs root' : '',
    };
  });
}

async function runAll(files: string[]): Promise<{ lines: { file: string; error: string | null }[]; rest: string }> {
  const node = [...fromSources, join(import.meta.dirname, 'examples.js')];
  const child = spawn(process.execPath, [...node, ...files], {
    cwd: home,
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    timeout: 280_000,
  });
  const texts = ['', '', '', ''];
  for (const number of [1, 2, 3]) child.stdio[number]?.on('data', (chunk) => (texts[number] += chunk));
  await new Promise((resolve) => child.on('close', resolve));
  const lines = (texts[3] as string).split('\n').filter((line) => line !== '');
  // Both, where something fails after its module has ended: the first word counts.
  return { lines: lines.map((line) => JSON.parse(line)).reverse(), rest: `${texts[1]}${texts[2]}` };
}
