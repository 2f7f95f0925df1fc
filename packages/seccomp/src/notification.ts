import { addressOf, attempt, errnoName, errnoNumber, Fd, invalid, KernelError, O } from '@iso/sys';
import { type Architecture, nameOf } from './architecture.js';
import { register } from './comparison.js';
import { SeccompError } from './error.js';
import { ADDFD, AUDIT_ARCH, NOTIF, NOTIFY, RESP, X32_BIT } from './raw/seccomp.js';

const PAGE = 4096;

/**
 * A system call that waits for its answer. One answer is due: {@link Notification.return}, {@link Notification.fail},
 * {@link Notification.returnFd} or {@link Notification.continue}. Until then the thread that made it stands still.
 */
export class Notification {
  /** Its name; undefined for one that the table lacks. */
  readonly call: string | undefined;
  /** Its number. */
  readonly number: number;
  /** Whose call, as this process sees it; 0 where it does not. It may have ended, and the pid be another's: {@link Notification.valid}. */
  readonly pid: number;
  /** Whether it is of another ABI than the machine's own, where numbers mean something else. */
  readonly foreign: boolean;
  /** Its six arguments, unsigned. */
  readonly args: readonly bigint[];
  /** Where in the program it was made. */
  readonly instructionPointer: bigint;
  readonly #listener: Fd;
  readonly #id: bigint;
  #answered = false;

  /** @internal */
  constructor(listener: Fd, received: Buffer) {
    this.#listener = listener;
    this.#id = received.readBigUInt64LE(NOTIF.id);
    this.pid = received.readUInt32LE(NOTIF.pid);
    this.number = received.readInt32LE(NOTIF.nr);
    this.instructionPointer = received.readBigUInt64LE(NOTIF.ip);
    this.args = Array.from({ length: 6 }, (_, i) => received.readBigUInt64LE(NOTIF.args + 8 * i));
    const arch = received.readUInt32LE(NOTIF.arch);
    const own = (Object.keys(AUDIT_ARCH) as Architecture[]).find((name) => AUDIT_ARCH[name] === arch);
    this.foreign = own !== process.arch || (own === 'x64' && this.number >= X32_BIT);
    this.call = own && nameOf(this.number, own);
  }

  /** Whether the call still waits. Ask after whatever was looked up by its pid: before, it may have been another process's. */
  get valid(): boolean {
    const id = Buffer.alloc(8);
    id.writeBigUInt64LE(this.#id);
    return !this.#listener.closed && attempt('ioctl', this.#listener, NOTIFY.ID_VALID, id) === 0;
  }

  /** Whether it has its answer. */
  get answered(): boolean {
    return this.#answered;
  }

  /**
   * Answers that the call succeeded, without making it.
   *
   * @param value - its result
   * @throws {@link SeccompError} `gone`, `answered`
   */
  return(value: number | bigint = 0): void {
    this.#answer((response) => response.writeBigUInt64LE(register(value), RESP.val));
  }

  /**
   * Answers that the call failed, without making it.
   *
   * @param errno - name or number of the error
   * @throws {@link SeccompError} `gone`, `answered`
   */
  fail(errno: string | number): void {
    const number = typeof errno === 'string' ? errnoNumber(errno) : errno;
    if (!Number.isInteger(number) || number < 1 || number > 4095) throw invalid(`not an errno: ${String(errno)}`);
    this.#answer((response) => response.writeInt32LE(-number, RESP.error));
  }

  /**
   * Lets the kernel make the call. **No security can rest on this answer**: between the look at what an argument points to and
   * the call, another thread of the process may write something else there. It is for calls that are harmless, or that the kernel
   * forbids by other means.
   *
   * @throws {@link SeccompError} `gone`, `answered`
   */
  continue(): void {
    this.#answer((response) => response.writeUInt32LE(RESP.CONTINUE, RESP.flags));
  }

  /**
   * Gives the process a copy of a descriptor and answers with its number, in one: for calls that open something.
   *
   * @param fd - a descriptor of this process, which keeps it
   * @param options - `closeOnExec`: default is true
   * @returns the number there
   * @throws {@link SeccompError} `gone`, `answered`; KernelError `EMFILE`
   */
  returnFd(fd: Fd | number, options: { closeOnExec?: boolean } = {}): number {
    const number = this.#add(fd, { ...options, flags: ADDFD.SEND });
    this.#answered = true;
    return number;
  }

  /**
   * Gives the process a copy of a descriptor; the call goes on waiting.
   *
   * @param fd - a descriptor of this process, which keeps it
   * @param options - `at`: its number there, default is the lowest free one; `closeOnExec`: default is true
   * @returns the number there
   * @throws {@link SeccompError} `gone`, `answered`; KernelError `EMFILE`, `EBADF`
   */
  addFd(fd: Fd | number, options: { at?: number; closeOnExec?: boolean } = {}): number {
    return this.#add(fd, { ...options, flags: options.at === undefined ? 0 : ADDFD.SETFD });
  }

  /**
   * Copies memory of the process: what a pointer among the arguments points to.
   *
   * @param address - where
   * @param size - bytes
   * @returns a copy; another thread may have changed the original since
   * @throws {@link SeccompError} `gone`; KernelError `EFAULT`, `EPERM` (as ptrace(2) would be refused)
   */
  read(address: bigint, size: number): Buffer {
    if (!Number.isInteger(size) || size < 1) throw invalid(`not a number of bytes: ${String(size)}`);
    const bytes = this.#copy(address, size);
    if (bytes.length < size) throw new KernelError(14, { syscall: 'process_vm_readv' });
    return bytes;
  }

  /**
   * Copies a C string of the process, a path for example.
   *
   * @param address - where
   * @param limit - bytes that it has at the most, 4096 by default
   * @returns the text
   * @throws {@link SeccompError} `gone`; KernelError as {@link Notification.read}, `ENAMETOOLONG`
   */
  readString(address: bigint, limit: number = PAGE): string {
    let text = Buffer.alloc(0);
    while (text.length < limit) {
      // A page at a time: the next one may not be there.
      const at = address + BigInt(text.length);
      const size = Math.min(PAGE - Number(at % BigInt(PAGE)), limit - text.length);
      const piece = this.#copy(at, size);
      const end = piece.indexOf(0);
      if (end >= 0) return Buffer.concat([text, piece.subarray(0, end)]).toString('utf8');
      if (piece.length < size) throw new KernelError(14, { syscall: 'process_vm_readv' });
      text = Buffer.concat([text, piece]);
    }
    throw new KernelError(36, { syscall: 'process_vm_readv', hint: `the string has more than ${limit} bytes` });
  }

  #copy(address: bigint, size: number): Buffer {
    const bytes = Buffer.from(new ArrayBuffer(size));
    const [local, remote] = [Buffer.alloc(16), Buffer.alloc(16)];
    for (const [vector, at] of [
      [local, addressOf(bytes)],
      [remote, address],
    ] as const) {
      vector.writeBigUInt64LE(at, 0);
      vector.writeBigUInt64LE(BigInt(size), 8);
    }
    const result = attempt('process_vm_readv', this.pid, local, 1, remote, 1, 0);
    // Only now it is certain whose memory that was.
    if (!this.valid) throw this.#gone();
    if (result < 0)
      throw new KernelError(result, {
        syscall: 'process_vm_readv',
        hint: 'it needs the right to trace the process: the same user, or CAP_SYS_PTRACE, and a dumpable process',
      });
    return bytes.subarray(0, result);
  }

  #answer(fill: (response: Buffer) => void): void {
    if (this.#answered) throw new SeccompError('answered', `${this.#name} has its answer`);
    const response = Buffer.alloc(RESP.size);
    response.writeBigUInt64LE(this.#id, RESP.id);
    fill(response);
    this.#ioctl(NOTIFY.SEND, response);
    this.#answered = true;
  }

  #add(fd: Fd | number, options: { at?: number; closeOnExec?: boolean; flags: number }): number {
    if (this.#answered) throw new SeccompError('answered', `${this.#name} has its answer`);
    const { at = 0, closeOnExec = true, flags } = options;
    if (!Number.isInteger(at) || at < 0) throw invalid(`not a descriptor's number: ${String(at)}`);
    const request = Buffer.alloc(ADDFD.size);
    request.writeBigUInt64LE(this.#id, ADDFD.id);
    request.writeUInt32LE(flags, ADDFD.flags);
    request.writeUInt32LE(Fd.borrow(fd).number, ADDFD.srcfd);
    request.writeUInt32LE(at, ADDFD.newfd);
    request.writeUInt32LE(closeOnExec ? O.CLOEXEC : 0, ADDFD.newfdFlags);
    return this.#ioctl(NOTIFY.ADDFD, request);
  }

  #ioctl(request: number, argument: Buffer): number {
    if (this.#listener.closed) throw this.#gone();
    const result = attempt('ioctl', this.#listener, request, argument);
    if (result >= 0) return result;
    if (errnoName(result) === 'ENOENT') throw this.#gone();
    throw new KernelError(result, { syscall: 'ioctl', call: `ioctl(listener, 0x${request.toString(16)})` });
  }

  #gone(): SeccompError {
    return new SeccompError('gone', `${this.#name} no longer waits: its process has ended, or a signal interrupted it`);
  }

  get #name(): string {
    return `${this.call ?? `system call ${this.number}`} of process ${this.pid}`;
  }
}
