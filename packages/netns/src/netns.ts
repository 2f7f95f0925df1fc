import { readFileSync } from 'node:fs';
import { AT, attempt, CLONE, errand, Fd, LaunchProgram, O, type Part, type Slot } from '@iso/sys';

const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const SOCK_CLOEXEC = 0o2000000;
const SIOCSIFFLAGS = 0x8914;
const IFF_UP_RUNNING = 1 | 0x40;

/**
 * A network namespace, held by a descriptor. A part of a launch: the process starts inside.
 * Creating one needs CAP_SYS_ADMIN.
 *
 * @example
 * ```ts root
 * import { NetNS } from '@iso/netns';
 * const lab = NetNS.create();
 * const socket = lab.socket(2, 1);
 * socket.close();
 * lab.close();
 * ```
 */
export class NetNS implements Disposable, Part {
  /** Its descriptor. */
  readonly fd: Fd;

  private constructor(fd: Fd) {
    this.fd = fd;
  }

  /**
   * Creates a network namespace with its loopback up.
   *
   * @returns the namespace
   * @throws KernelError `EPERM` without CAP_SYS_ADMIN
   */
  static create(): NetNS {
    const program = new LaunchProgram('errand');
    program.unshare(CLONE.NEWNET);
    const socket = loopbackUp(program);
    const fd = program.step('end', 'openat', [AT.FDCWD, '/proc/thread-self/ns/net', O.RDONLY | O.CLOEXEC]);
    errand(program);
    attempt('close', socket.value as number);
    return new NetNS(Fd.own(fd.value as number));
  }

  /**
   * Opens one that exists.
   *
   * @param source - a pid, or a path such as /run/netns/NAME
   * @returns the namespace
   * @throws KernelError `ENOENT`, `EACCES`
   */
  static open(source: { pid: number } | { path: string }): NetNS {
    return new NetNS(Fd.open('pid' in source ? `/proc/${source.pid}/ns/net` : source.path));
  }

  /**
   * Opens a socket inside; it stays there, whoever uses it.
   *
   * @param domain - AF_INET is 2, AF_INET6 10, AF_NETLINK 16
   * @param type - SOCK_STREAM is 1, SOCK_DGRAM 2, SOCK_RAW 3
   * @param protocol - default 0
   * @returns the owned descriptor, close-on-exec
   * @throws KernelError with `step`
   */
  socket(domain: number, type: number, protocol = 0): Fd {
    const program = new LaunchProgram('errand');
    this.confine(program);
    const socket = program.step('host', 'socket', [domain, type | SOCK_CLOEXEC, protocol]);
    errand(program);
    return Fd.own(socket.value as number);
  }

  /**
   * Names of its interfaces.
   *
   * @returns in the kernel's order
   */
  interfaces(): string[] {
    const program = new LaunchProgram('errand');
    this.confine(program);
    const file = program.step('host', 'openat', [AT.FDCWD, '/proc/thread-self/net/dev', O.RDONLY | O.CLOEXEC]);
    errand(program);
    const fd = Fd.own(file.value as number);
    try {
      return [...readFileSync(fd.number, 'utf8').matchAll(/^\s*([^\s:]+):/gm)].map((match) => match[1] as string);
    } finally {
      fd.close();
    }
  }

  /** Joins it: the process starts inside. */
  confine(program: LaunchProgram): void {
    program.join(this.fd, CLONE.NEWNET);
  }

  /** Lets it go; it ends with its last process or descriptor. */
  close(): void {
    this.fd.close();
  }

  /** The same as {@link NetNS.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function loopbackUp(program: LaunchProgram): Slot {
  const request = Buffer.alloc(40);
  request.write('lo', 0, 'latin1');
  request.writeInt16LE(IFF_UP_RUNNING, 16);
  const socket = program.step('host', 'socket', [AF_INET, SOCK_DGRAM_CLOEXEC, 0]);
  program.step('host', 'ioctl', [socket, SIOCSIFFLAGS, request], {
    text: 'ioctl(socket, SIOCSIFFLAGS, {lo, IFF_UP|IFF_RUNNING})',
  });
  return socket;
}
