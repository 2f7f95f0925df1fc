import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { ImageError } from '../content/error.js';
import { isMissing, kernel } from '../file/node.js';
import { parseJson } from '../image/document.js';

/** What a registry is told of who asks: a name and a password, or a token that stands for them. */
export type Credentials =
  | { username: string; password: string }
  | { identityToken: string }
  | { registryToken: string };

/**
 * Finds credentials.
 *
 * @param registry - for example `docker.io`
 * @param repository - for example `library/debian`
 * @returns what there is; nothing for nobody in particular
 */
export type CredentialSource = (
  registry: string,
  repository: string,
) => Credentials | undefined | Promise<Credentials | undefined>;

/** What docker calls its own registry. */
const HUB = 'https://index.docker.io/v1/';

/**
 * Credentials of a `config.json` of docker, or an `auth.json` of podman: those that stand in it, and those of the programs that it names
 * (`docker-credential-…`), which are run.
 *
 * @param path - of the file; default `$DOCKER_CONFIG/config.json`, or `~/.docker/config.json`. Where there is none, nobody has any.
 * @returns where a registry finds them
 * @throws {@link ImageError} `badDocument` when it is asked
 *
 * @example
 * ```ts
 * import { dockerCredentials, Registry } from '@iso/unionfs';
 * const registry = new Registry('docker.io', { credentials: dockerCredentials() });
 * if (registry.host !== 'docker.io') throw new Error('another');
 * ```
 */
export function dockerCredentials(path?: string): CredentialSource {
  const file = path ?? join(process.env.DOCKER_CONFIG ?? join(homedir(), '.docker'), 'config.json');
  return async (registry, repository) => {
    const config = await readConfig(file);
    if (!config) return undefined;
    const { auths = {}, credHelpers = {}, credsStore } = config;
    const helper = own(credHelpers, registry) ?? credsStore;
    if (helper !== undefined) {
      if (typeof helper !== 'string') throw bad(file, 'a helper is no text');
      const found = await askHelper(helper, registry === 'docker.io' ? HUB : registry);
      if (found || own(credHelpers, registry) !== undefined) return found;
    }
    for (const key of keysFor(registry, repository)) {
      const entry = own(auths, key);
      if (entry !== undefined) return decode(file, entry);
    }
    return undefined;
  };
}

type Fields = Record<string, unknown>;

async function readConfig(
  file: string,
): Promise<{ auths?: Fields; credHelpers?: Fields; credsStore?: unknown } | undefined> {
  let bytes: Buffer;
  try {
    bytes = await kernel(readFile(file));
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
  const value = parseJson(bytes, file);
  if (typeof value !== 'object' || value === null) throw bad(file, 'no object');
  const { auths, credHelpers, credsStore } = value as Fields;
  for (const part of [auths, credHelpers]) {
    if (part !== undefined && (typeof part !== 'object' || part === null)) throw bad(file, 'no object');
  }
  return {
    ...(auths ? { auths: auths as Fields } : {}),
    ...(credHelpers ? { credHelpers: credHelpers as Fields } : {}),
    ...(credsStore ? { credsStore } : {}),
  };
}

/** Keys under which credentials may stand, the most special one first. */
function keysFor(registry: string, repository: string): string[] {
  const parts = repository.split('/');
  const special = parts.map((_, i) => [registry, ...parts.slice(0, parts.length - i)].join('/'));
  const hosts = registry === 'docker.io' ? ['index.docker.io', 'registry-1.docker.io', 'docker.io'] : [registry];
  return [
    ...special,
    ...hosts.flatMap((host) => [
      host,
      `https://${host}`,
      `https://${host}/v1/`,
      `https://${host}/v2/`,
      `http://${host}`,
    ]),
  ];
}

function decode(file: string, entry: unknown): Credentials | undefined {
  if (typeof entry !== 'object' || entry === null) throw bad(file, 'credentials are no object');
  const { auth, username, password, identitytoken, registrytoken } = entry as Fields;
  if (typeof identitytoken === 'string' && identitytoken) return { identityToken: identitytoken };
  if (typeof registrytoken === 'string' && registrytoken) return { registryToken: registrytoken };
  if (typeof username === 'string' && typeof password === 'string') return { username, password };
  if (auth === undefined || auth === '') return undefined;
  if (typeof auth !== 'string') throw bad(file, 'auth is no text');
  const text = Buffer.from(auth, 'base64').toString();
  const colon = text.indexOf(':');
  if (colon < 1) throw bad(file, 'auth is not a name and a password');
  // Docker pads passwords with NUL.
  return { username: text.slice(0, colon), password: text.slice(colon + 1).replace(/\0+$/, '') };
}

/** What no user is called: the helper's secret is a token then. */
const TOKEN = '<token>';

async function askHelper(name: string, registry: string): Promise<Credentials | undefined> {
  if (!/^[A-Za-z0-9._-]+$/.test(name))
    throw new ImageError('badDocument', `not a helper's name: ${JSON.stringify(name)}`);
  const program = `docker-credential-${name}`;
  const output = await new Promise<string>((resolve, reject) => {
    const child = execFile(program, ['get'], { timeout: 30_000, maxBuffer: 1 << 20 }, (error, stdout) => {
      if (!error) return resolve(stdout);
      // So says every helper of who is not known.
      if (/credentials not found/.test(stdout)) return resolve('');
      reject(new ImageError('unauthorized', `${program} failed: ${error.message.split('\n')[0]}`, { cause: error }));
    });
    child.stdin?.on('error', () => {});
    child.stdin?.end(`${registry}\n`);
  });
  if (!output) return undefined;
  const { Username: username, Secret: secret } = parseJson(Buffer.from(output), `the answer of ${program}`) as Fields;
  if (typeof username !== 'string' || typeof secret !== 'string' || !secret) return undefined;
  return username === TOKEN ? { identityToken: secret } : { username, password: secret };
}

function own(object: Fields, key: string): unknown {
  return Object.hasOwn(object, key) ? object[key] : undefined;
}

function bad(file: string, what: string): ImageError {
  return new ImageError('badDocument', `${file}: ${what}`, { subject: file });
}
