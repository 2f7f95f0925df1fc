/** Options of a Node that runs the packages from their sources. */
export declare const fromSources: string[];
/**
 * An expression for a worker's code, which needs `--conditions=iso-source` too.
 *
 * @param url - of a source
 * @returns a promise of its exports
 */
export declare const importSource: (url: string | URL) => string;
