/** Why something of an image was refused, see {@link ImageError}. */
export type ImageErrorReason =
  | 'notFound'
  | 'noPlatform'
  | 'badName'
  | 'badDocument'
  | 'badArchive'
  | 'ambiguous'
  | 'wrongDigest'
  | 'wrongSize'
  | 'tooLarge'
  | 'unsupported'
  | 'inUse'
  | 'unauthorized'
  | 'denied'
  | 'network'
  | 'protocol'
  | 'badStep';

/** What an {@link ImageError} knows beside its reason. */
export interface ImageErrorFields {
  /** Digest of the blob that it is about. */
  digest?: string;
  /** The name, tag, path or address that it is about. */
  subject?: string;
  /** Status of a registry's answer. */
  status?: number;
  /** One line: what to do about it. */
  hint?: string;
  /** The error that led here. */
  cause?: unknown;
}

const brand: unique symbol = Symbol.for('@iso/unionfs/ImageError');

/**
 * An image, or a place that holds images, that cannot be used. `reason` tells the kind:
 *
 * - `notFound`: no blob, image, tag, repository or file of an archive of that name
 * - `noPlatform`: an index without an image for the platform
 * - `badName`: a digest, reference, tag or platform that is none
 * - `badDocument`: a JSON document that does not say what it must, or is none
 * - `badArchive`: a file that holds no image in a form that is known
 * - `ambiguous`: programs disagree on what it says
 * - `wrongDigest`, `wrongSize`: the content is not the one that was asked for
 * - `tooLarge`: more than a limit allows
 * - `unsupported`: a media type or an algorithm that is not known here
 * - `inUse`: somebody holds it
 * - `unauthorized`, `denied`: a registry wants (other) credentials, or grants them less
 * - `network`: a registry cannot be reached, or its answers break off
 * - `protocol`: a registry answers what it must not
 * - `badStep`: a step of a build that cannot be done
 *
 * @example
 * ```ts
 * import { ImageError, parseReference } from '@iso/unionfs';
 * try {
 *   parseReference('UPPER/case');
 * } catch (error) {
 *   if (!ImageError.is(error, 'badName')) throw error;
 * }
 * ```
 */
export class ImageError extends Error implements ImageErrorFields {
  override name = 'ImageError';
  /** The kind of trouble. */
  readonly reason: ImageErrorReason;
  declare readonly digest?: string;
  declare readonly subject?: string;
  declare readonly status?: number;
  declare readonly hint?: string;

  /**
   * @param reason - the kind
   * @param message - what is wrong
   * @param fields - what else is known
   */
  constructor(reason: ImageErrorReason, message: string, fields: ImageErrorFields = {}) {
    super(
      `${message}${fields.hint ? `; ${fields.hint}` : ''}`,
      fields.cause === undefined ? undefined : { cause: fields.cause },
    );
    this.reason = reason;
    for (const key of ['digest', 'subject', 'status', 'hint'] as const) {
      if (fields[key] !== undefined) Object.assign(this, { [key]: fields[key] });
    }
    Object.defineProperty(this, brand, { value: true });
  }

  /**
   * Tells an ImageError from anything else, also across two copies of this package.
   *
   * @param error - anything caught
   * @param reasons - where given, only these count
   * @returns whether it is one
   */
  static is(error: unknown, ...reasons: ImageErrorReason[]): error is ImageError {
    if (typeof error !== 'object' || error === null || !(brand in error)) return false;
    return reasons.length === 0 || reasons.includes((error as unknown as ImageError).reason);
  }
}
