import { KernelError, UnsupportedError } from '@iso/sys';
import { ArchiveError, type ArchiveErrorCode } from '../tar/error.js';

/** An error on its way from one thread to another: structured clones lose classes and fields. */
export type PackedError =
  | { kind: 'archive'; code: ArchiveErrorCode; message: string; path?: Uint8Array; offset?: number; hint?: string }
  | { kind: 'kernel'; errno: number; syscall: string; call: string; path?: string; hint?: string }
  | { kind: 'unsupported'; feature: string; reason: string }
  | { kind: 'other'; message: string; code?: string; stack?: string };

/**
 * Packs an error.
 *
 * @param error - anything thrown
 * @returns plain data
 */
export function packError(error: unknown): PackedError {
  if (error instanceof ArchiveError) {
    const { code, message, path, offset, hint } = error;
    return {
      kind: 'archive',
      code,
      message,
      ...(path ? { path } : {}),
      ...(offset === undefined ? {} : { offset }),
      ...(hint ? { hint } : {}),
    };
  }
  if (KernelError.is(error)) {
    const { errno, syscall, path, hint, message, code } = error;
    const call = message.slice(0, message.indexOf(`: ${code}`));
    return { kind: 'kernel', errno, syscall, call, ...(path ? { path } : {}), ...(hint ? { hint } : {}) };
  }
  if (error instanceof UnsupportedError) return { kind: 'unsupported', feature: error.feature, reason: error.reason };
  const { message, code, stack } = error as NodeJS.ErrnoException;
  return { kind: 'other', message: String(message), ...(code ? { code } : {}), ...(stack ? { stack } : {}) };
}

/**
 * Makes the error again.
 *
 * @param packed - as {@link packError} made it
 * @returns an error of the same class
 */
export function unpackError(packed: PackedError): Error {
  switch (packed.kind) {
    case 'archive': {
      const { code, message, path, offset, hint } = packed;
      const error = new ArchiveError(code, message);
      // The message has them already.
      return Object.assign(error, path ? { path: Buffer.from(path) } : {}, {
        ...(offset === undefined ? {} : { offset }),
        ...(hint ? { hint } : {}),
      });
    }
    case 'kernel':
      return new KernelError(packed.errno, packed);
    case 'unsupported':
      return new UnsupportedError(packed.feature, packed.reason);
    default:
      return Object.assign(new Error(packed.message), packed.code ? { code: packed.code } : {});
  }
}
