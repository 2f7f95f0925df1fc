import type { Options } from 'tsup';

const base: Options = {
  entry: ['src/index.ts'],
  format: 'esm',
  target: 'node20',
  platform: 'node',
  clean: false,
  sourcemap: true,
  splitting: true,
  silent: true,
};
export default base;

export const withTesting: Options = { ...base, entry: ['src/index.ts', 'src/testing/index.ts'] };
