import { createHash, type Hash } from 'node:crypto';
import { ImageError } from './error.js';

/** Algorithms of digests and how many hexadecimal digits they have. */
const ALGORITHMS = { sha256: 64, sha512: 128 } as const;

/** An algorithm of digests. */
export type DigestAlgorithm = keyof typeof ALGORITHMS;

/**
 * Takes a digest apart. Only what passes here becomes part of a path.
 *
 * @param digest - for example `sha256:` and 64 hexadecimal digits
 * @returns its algorithm and its digits
 * @throws {@link ImageError} `badName` for anything else, `unsupported` for other algorithms
 */
export function splitDigest(digest: string): { algorithm: DigestAlgorithm; hex: string } {
  const colon = digest.indexOf(':');
  const algorithm = digest.slice(0, Math.max(colon, 0));
  const hex = digest.slice(colon + 1);
  if (colon < 0 || !/^[a-z0-9]+(?:[.+_-][a-z0-9]+)*$/.test(algorithm) || !/^[a-zA-Z0-9=_-]+$/.test(hex)) {
    throw new ImageError('badName', `not a digest: ${JSON.stringify(digest.slice(0, 200))}`);
  }
  if (!Object.hasOwn(ALGORITHMS, algorithm)) {
    throw new ImageError('unsupported', `digests of ${algorithm} are not known here`, { digest });
  }
  const known = algorithm as DigestAlgorithm;
  if (hex.length !== ALGORITHMS[known] || !/^[0-9a-f]+$/.test(hex)) {
    throw new ImageError('badName', `not a digest of ${known}: ${JSON.stringify(digest.slice(0, 200))}`);
  }
  return { algorithm: known, hex };
}

/**
 * The digest of some bytes.
 *
 * @param bytes - all of them
 * @param algorithm - of the digest
 * @returns for example `sha256:…`
 */
export function digestOf(bytes: Uint8Array, algorithm: DigestAlgorithm = 'sha256'): string {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
}

/**
 * The algorithm of a digest that somebody else tells.
 *
 * @param digest - whatever it is
 * @returns the algorithm; nothing for one that is not known here
 */
export function algorithmOf(digest: string): DigestAlgorithm | undefined {
  const algorithm = digest.slice(0, Math.max(digest.indexOf(':'), 0));
  return Object.hasOwn(ALGORITHMS, algorithm) ? (algorithm as DigestAlgorithm) : undefined;
}

/** Hashes bytes as they come. */
export class Hasher {
  readonly #algorithm: DigestAlgorithm;
  readonly #hash: Hash;
  /** Bytes so far. */
  size = 0;

  /** @param algorithm - of the digest */
  constructor(algorithm: DigestAlgorithm = 'sha256') {
    this.#algorithm = algorithm;
    this.#hash = createHash(algorithm);
  }

  /** Takes the next bytes. */
  update(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    this.size += bytes.length;
  }

  /** The digest of all, once. */
  digest(): string {
    return `${this.#algorithm}:${this.#hash.digest('hex')}`;
  }
}
