/** Why an archive was refused, see {@link ArchiveError}. */
export type ArchiveErrorCode =
  | 'ERR_ARCHIVE_HEADER'
  | 'ERR_ARCHIVE_TRUNCATED'
  | 'ERR_ARCHIVE_AMBIGUOUS'
  | 'ERR_ARCHIVE_TYPE'
  | 'ERR_ARCHIVE_PATH'
  | 'ERR_ARCHIVE_LINK'
  | 'ERR_ARCHIVE_WHITEOUT'
  | 'ERR_ARCHIVE_LIMIT'
  | 'ERR_ARCHIVE_COMPRESSION'
  | 'ERR_ARCHIVE_DIGEST';

/**
 * An archive that is damaged, hostile, or says what cannot be said. Its `code` tells the kind:
 *
 * - `ERR_ARCHIVE_HEADER`: a header, checksum, number or extended record that is none
 * - `ERR_ARCHIVE_TRUNCATED`: it ends in the middle of something
 * - `ERR_ARCHIVE_AMBIGUOUS`: programs disagree on what it says, so that what one checks is not what another unpacks
 * - `ERR_ARCHIVE_TYPE`: an entry of a type that is not known, or not allowed here
 * - `ERR_ARCHIVE_PATH`: a name with `..`, with NUL, or one that cannot be reached inside the root
 * - `ERR_ARCHIVE_LINK`: a hard link to what is not there
 * - `ERR_ARCHIVE_WHITEOUT`: a whiteout of nothing, or a file whose name is one
 * - `ERR_ARCHIVE_LIMIT`: more entries, bytes, depth … than allowed
 * - `ERR_ARCHIVE_COMPRESSION`: damaged or unknown compression
 * - `ERR_ARCHIVE_DIGEST`: the content is not the one that was asked for
 *
 * @example
 * ```ts
 * import { ArchiveError, TarParser } from '@iso/unionfs';
 * const parser = new TarParser({ entry: () => {}, data: () => {}, end: () => {} });
 * try {
 *   parser.write(Buffer.alloc(512, 'x'));
 * } catch (error) {
 *   if (!(error instanceof ArchiveError) || error.code !== 'ERR_ARCHIVE_HEADER') throw error;
 * }
 * ```
 */
export class ArchiveError extends Error {
  override name = 'ArchiveError';
  /** The kind of trouble. */
  readonly code: ArchiveErrorCode;
  /** Name of the entry that it is about, as bytes. */
  declare readonly path?: Buffer;
  /** Place in the uncompressed archive, in bytes. */
  declare readonly offset?: number;
  /** One line: what to do about it. */
  declare readonly hint?: string;

  /**
   * @param code - the kind
   * @param message - what is wrong
   * @param more - the entry, the place, a hint, the error that led here
   */
  constructor(
    code: ArchiveErrorCode,
    message: string,
    more: { path?: Uint8Array; offset?: number; hint?: string; cause?: unknown } = {},
  ) {
    const where = more.path ? ` (${printable(more.path)})` : '';
    const at = more.offset === undefined ? '' : ` at byte ${more.offset}`;
    super(
      `${message}${where}${at}${more.hint ? `; ${more.hint}` : ''}`,
      'cause' in more ? { cause: more.cause } : undefined,
    );
    this.code = code;
    if (more.path) Object.assign(this, { path: Buffer.from(more.path) });
    if (more.offset !== undefined) Object.assign(this, { offset: more.offset });
    if (more.hint) Object.assign(this, { hint: more.hint });
  }
}

/**
 * A name for people: what is not printable is escaped, what is long is cut.
 *
 * @param name - bytes
 * @returns quoted text
 */
function printable(name: Uint8Array): string {
  const text = Buffer.from(name.buffer, name.byteOffset, Math.min(name.length, 256)).toString();
  return JSON.stringify(name.length > 256 ? `${text}…` : text);
}
