/** What is wrong with a request: with its options, its bundle, or the state of the container. */
export class RuntimeError extends Error {
  override name = 'RuntimeError';
}

/** What was kept of a container is not what this wrote. */
export class DamagedError extends RuntimeError {
  /** @param path - of the file */
  constructor(path: string, cause?: unknown) {
    super(`${path} is damaged: delete --force removes the container`, { cause });
  }
}

/** No container of that name. */
export class NoContainerError extends RuntimeError {
  /** @param id - that was asked for */
  constructor(id: string) {
    // Engines look for these words.
    super(`container ${id} does not exist`);
  }
}
