import { splitDigest } from '../content/digest.js';
import { ImageError } from '../content/error.js';
import { checkArgument } from '../file/argument.js';

/** A name of an image, taken apart. */
export interface Reference {
  /** Host and port of the registry, for example `docker.io` or `localhost:5000`. */
  registry: string;
  /** Its path there, for example `library/debian`. */
  repository: string;
  /** Default is `latest` where there is no digest. */
  tag?: string;
  /** The exact one. */
  digest?: string;
}

const HUB = 'docker.io';
const HUB_ALIASES = ['index.docker.io', 'registry-1.docker.io', 'registry.hub.docker.com'];
const HOST =
  /^(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?$/;
const COMPONENT = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;

/**
 * Takes a name apart, as docker does: without a registry it is docker.io's, there without a slash it is in `library/`.
 *
 * @param text - for example `debian:12`, `localhost:5000/a/b@sha256:…`
 * @returns its parts
 * @throws {@link ImageError} `badName`
 *
 * @example
 * ```ts
 * import { formatReference, parseReference } from '@iso/unionfs';
 * if (formatReference(parseReference('debian')) !== 'docker.io/library/debian:latest') throw new Error('another');
 * ```
 */
export function parseReference(text: string): Reference {
  checkArgument('reference', text, 'a name');
  const bad = (what: string) =>
    new ImageError('badName', `not a name of an image: ${JSON.stringify(text.slice(0, 300))}: ${what}`);
  if (text.length > 600) throw bad('too long');
  const at = text.indexOf('@');
  let name = at < 0 ? text : text.slice(0, at);
  const digest = at < 0 ? undefined : text.slice(at + 1);
  if (digest !== undefined) splitDigest(digest);
  let tag: string | undefined;
  const colon = name.lastIndexOf(':');
  if (colon > name.lastIndexOf('/')) {
    tag = name.slice(colon + 1);
    name = name.slice(0, colon);
    if (!TAG.test(tag)) throw bad('a tag is letters, digits, _, . and -, up to 128');
  }
  const slash = name.indexOf('/');
  const first = slash < 0 ? '' : name.slice(0, slash);
  const isHost = /[.:\]]/.test(first) || first === 'localhost' || first !== first.toLowerCase();
  let registry = isHost ? first : HUB;
  let repository = isHost ? name.slice(slash + 1) : name;
  if (HUB_ALIASES.includes(registry)) registry = HUB;
  if (registry === HUB && !repository.includes('/')) repository = `library/${repository}`;
  if (!HOST.test(registry) || !(Number(/:(\d+)$/.exec(registry)?.[1] ?? 1) < 65536)) throw bad('not a host');
  if (repository.length > 255 || !repository.split('/').every((part) => COMPONENT.test(part))) {
    throw bad('a repository is lowercase letters, digits, and single . _ - / between them');
  }
  if (tag === undefined && digest === undefined) tag = 'latest';
  return {
    registry,
    repository,
    ...(tag === undefined ? {} : { tag }),
    ...(digest === undefined ? {} : { digest }),
  };
}

/**
 * The whole name.
 *
 * @param reference - its parts
 * @returns for example `docker.io/library/debian:12`
 */
export function formatReference({ registry, repository, tag, digest }: Reference): string {
  return `${registry}/${repository}${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`;
}
