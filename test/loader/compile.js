// The packages' sources, each file compiled for itself into a folder that processes of the tests find by their environment.
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const options = { format: 'esm', platform: 'node', target: 'node20' };
/** Loaded where something is compiled: most processes find all they need. */
function esbuild() {
  // Else a thread of its own keeps a process, which nobody reaps where that thread ends with a worker that a test has started.
  process.env.ESBUILD_WORKER_THREADS = '0';
  return createRequire(import.meta.url)('esbuild');
}

/** Compiles all into this folder. */
export function compileSources(folder) {
  process.env.ISO_TEST_CODE = folder;
  const entryPoints = ['packages', 'examples'].flatMap((name) =>
    readdirSync(join(root, name)).flatMap((workspace) =>
      readdirSync(join(root, name, workspace, 'src'), { recursive: true })
        .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
        .map((file) => join(root, name, workspace, 'src', file)),
    ),
  );
  esbuild().buildSync({ ...options, entryPoints, outdir: folder, outbase: root });
}

/** Where a file's compilation is, if it is one of the sources and they were compiled. */
export function compiledPath(file) {
  const { ISO_TEST_CODE: folder } = process.env;
  const path = relative(root, file);
  return folder && !path.startsWith('..') ? join(folder, path.replace(/\.ts$/, '.js')) : undefined;
}

/** Compiles one source. */
export function compile(source) {
  return esbuild().transformSync(source, { ...options, loader: 'ts' }).code;
}
