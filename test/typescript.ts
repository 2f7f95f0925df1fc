import { fileURLToPath } from 'node:url';

const loader = new URL('./loader/register.js', import.meta.url).href;

/** Options of a Node that runs the packages from their sources. */
export const fromSources = ['--conditions=iso-source', '--import', fileURLToPath(loader)];

/**
 * An expression for a worker's code, which needs `--conditions=iso-source` too.
 *
 * @param url - of a source
 * @returns a promise of its exports
 */
export const importSource = (url: string | URL): string => `import('${loader}').then(() => import('${url}'))`;
