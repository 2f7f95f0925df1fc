import { execFileSync } from 'node:child_process';
import type { Options } from 'tsup';
import base from '../../tsup.config.js';

const command: Options = {
  ...base,
  entry: { cli: 'src/cli.ts' },
  // One file, that a script of V8's is made of: see bin/iso-oci.js.
  format: 'cjs',
  outExtension: () => ({ js: '.cjs' }),
  splitting: false,
  sourcemap: false,
  noExternal: [/^(?!koffi$)/],
  external: ['koffi'],
  esbuildOptions: (options) => {
    options.charset = 'ascii';
    options.minifyWhitespace = true;
    options.minifySyntax = true;
    options.define = { ...options.define, 'import.meta.url': '__filename' };
  },
  onSuccess: async () => {
    execFileSync(process.execPath, ['scripts/cache.js'], { stdio: 'inherit' });
  },
};

export default [{ ...base, entry: ['src/index.ts'] }, command];
