import { fileURLToPath } from 'node:url';
import { fromSources } from '../../../../test/typescript.js';

/** What Node is given to run `iso`: its source, or where starting from that takes long, the build that `ISO_CLI` names. */
export const command: readonly string[] = process.env.ISO_CLI
  ? ['--', process.env.ISO_CLI]
  : [...fromSources, '--', fileURLToPath(new URL('../cli.ts', import.meta.url))];
