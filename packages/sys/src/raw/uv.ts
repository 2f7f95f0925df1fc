import type { Word } from './native.js';

/** A library as koffi shows it. */
export interface Library {
  /** One of its functions. */
  func(name: string, result: string, args: string[]): (...args: unknown[]) => unknown;
}

/** What of libuv is used. */
export interface Uv {
  /** Bytes of a uv_poll_t. */
  pollSize: number;
  /**
   * Watches a descriptor in the default loop, which is that of Node's main thread. It keeps nobody alive.
   *
   * @param handle - address of a uv_poll_t; its first word is the user's
   * @param fd - what to watch until it can be read
   * @param code - a uv_poll_cb
   * @returns 0, or minus the error number: then nothing of the handle is in use
   */
  poll(handle: number, fd: number, code: Word): number;
  /** Stops it at once; the handle's memory is libuv's until the end of this turn of the loop. */
  close(handle: number): void;
}

/** `uv_handle_type` and `uv_poll_event` of uv.h, the same in all of its versions. */
const UV_POLL = 8;
const UV_READABLE = 1;

/**
 * libuv, as it is in this process.
 *
 * @param libc - what the process has loaded
 * @returns undefined where Node hides its names
 */
export function findUv(libc: Library): Uv | undefined {
  try {
    const size = libc.func('uv_handle_size', 'size_t', ['int']);
    const loop = libc.func('uv_default_loop', 'int64', []);
    const init = libc.func('uv_poll_init', 'int', ['int64', 'int64', 'int']);
    const start = libc.func('uv_poll_start', 'int', ['int64', 'int', 'int64']);
    const unref = libc.func('uv_unref', 'void', ['int64']);
    const close = libc.func('uv_close', 'void', ['int64', 'int64']);
    return {
      pollSize: size(UV_POLL) as number,
      poll(handle, fd, code) {
        const failed = init(loop(), handle, fd) as number;
        if (failed !== 0) return failed;
        // It only notes what is wanted: nothing that can fail.
        start(handle, UV_READABLE, code);
        unref(handle);
        return 0;
      },
      close: (handle) => void close(handle, 0),
    };
  } catch {
    return undefined;
  }
}
