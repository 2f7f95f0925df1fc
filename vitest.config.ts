import { existsSync } from 'node:fs';
import { defineConfig } from 'vitest/config';

const conditions = ['iso-source', 'node', 'import', 'module', 'default'];
const setup = 'packages/sys/src/testing/setup.ts';

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    globalSetup: ['test/state.ts'],
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['packages/*/src/**/*.test.ts', 'examples/*/src/**/*.test.ts'],
          exclude: ['**/*.kernel.test.ts', '**/node_modules/**'],
          pool: 'forks',
          // Thousands of random cases of a property are half a second here, and six where others use the processors.
          testTimeout: 60_000,
          // Half of their time they wait.
          maxWorkers: 2,
        },
      },
      {
        extends: true,
        test: {
          name: 'kernel',
          include: ['packages/*/src/**/*.kernel.test.ts', 'examples/*/src/**/*.kernel.test.ts'],
          pool: 'forks',
          fileParallelism: false,
          testTimeout: 30_000,
          // Where others share the machine, a rate or a delay may be measured once more; the report says so.
          retry: process.env.CI ? 1 : 0,
          setupFiles: existsSync(setup) ? [setup] : [],
        },
      },
      { extends: true, test: { name: 'docs', include: ['test/docs.test.ts'], pool: 'forks', testTimeout: 60_000 } },
    ],
  },
});
