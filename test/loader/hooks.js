// Sources as they were compiled before the tests began; what was not, or has changed since, is compiled now.
import { readFileSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { compile, compiledPath } from './compile.js';

const typescript = /\.m?ts$/;

export function resolve(specifier, context, next) {
  if (!specifier.startsWith('.') || !typescript.test(context.parentURL ?? '')) return next(specifier, context);
  return { url: new URL(specifier.replace(/\.js$/, '.ts'), context.parentURL).href, shortCircuit: true };
}

export function load(url, context, next) {
  // The bundler of what is built asks for no attribute of the import.
  if (url.endsWith('.json') && context.importAttributes?.type === undefined)
    return {
      format: 'module',
      shortCircuit: true,
      source: `export default ${readFileSync(fileURLToPath(url), 'utf8')}`,
    };
  if (!typescript.test(url)) return next(url, context);
  const file = fileURLToPath(url);
  const source = compiledBefore(file) ?? compile(readFileSync(file, 'utf8'));
  return { format: 'module', shortCircuit: true, source };
}

function compiledBefore(file) {
  const compiled = compiledPath(file);
  try {
    if (compiled && statSync(compiled).mtimeMs > statSync(file).mtimeMs) return readFileSync(compiled);
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
}
