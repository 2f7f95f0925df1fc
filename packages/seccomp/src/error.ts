/** What a {@link SeccompError} is about. */
export type SeccompReason =
  /** A profile is no JSON, or not what Docker's format says. */
  | 'profile'
  /** A filter has more instructions than the kernel takes. */
  | 'too-large'
  /** The process that a notification is about has ended, or its call was interrupted. */
  | 'gone'
  /** A notification has its answer. */
  | 'answered';

/** A profile that cannot be read, a filter that cannot be compiled, a notification that cannot be answered. */
export class SeccompError extends Error {
  override name = 'SeccompError';
  /** Always `'ERR_SECCOMP'`. */
  readonly code = 'ERR_SECCOMP';
  /** What it is about. */
  readonly reason: SeccompReason;

  /**
   * @param reason - what it is about
   * @param message - what is wrong where
   * @param cause - the error that showed it
   */
  constructor(reason: SeccompReason, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.reason = reason;
  }
}
