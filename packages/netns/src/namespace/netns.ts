import type { Socket as DatagramSocket } from 'node:dgram';
import { fstatSync, statSync } from 'node:fs';
import type { Agent, AgentOptions } from 'node:http';
import type { Server, Socket } from 'node:net';
import {
  AF,
  AT,
  attempt,
  CLONE,
  errand,
  errandAsync,
  Fd,
  invalid,
  LaunchProgram,
  O,
  type Part,
  SOCK,
  SOL,
  syscall,
} from '@iso/sys';
import { NETLINK, SOCKET_TYPE } from '../netlink/raw.js';
import { Rtnetlink } from '../route/rtnetlink.js';
import { agent, fetchFrom } from './http.js';
import { opening } from './opening.js';
import { pin, pinPath, unpin } from './pin.js';
import { IFF_UP_RUNNING, NS_GET_NSTYPE, NS_GET_USERNS, SIOCSIFFLAGS, SO } from './raw.js';
import { type ListenOptions, listen } from './server.js';
import { type ConnectOptions, connect, type DatagramOptions, datagram } from './socket.js';
import { SocketQueue } from './socket-queue.js';
import { Sysctl } from './sysctl.js';
import { openTun, type Tun, type TunOptions } from './tun.js';

/** Where an existing network namespace is found. */
export type NetNSSource = { pid: number } | { path: string } | { name: string } | { fd: Fd };

/** How a network namespace starts. */
export interface NetNSOptions {
  /** Whether its loopback is up, default true. */
  loopback?: boolean;
  /** User namespace that owns it, by descriptor; default the caller's. Then no privilege outside of that one is needed. */
  owner?: Fd;
}

/**
 * A network namespace, held by a descriptor: it lives as long as this object, a process or a pin holds it. No thread of this
 * process ever enters it; sockets, sysctls and netlink inside come from short-lived children that share this process's
 * descriptors. A part of a launch: the process starts inside.
 *
 * @example
 * ```ts root
 * import { NetNS } from '@iso/netns';
 * using lab = NetNS.create();
 * lab.rtnl.links.create({ kind: 'bridge', name: 'br0', up: true });
 * if (!lab.rtnl.links.list().some((link) => link.name === 'br0')) throw new Error('no bridge');
 * ```
 */
export class NetNS implements Disposable, Part {
  /** Its descriptor. */
  readonly fd: Fd;
  /** Its inode: what `lsns` and /proc/PID/ns/net show. An inode is used again once the namespace is gone, see {@link NetNS.cookie}. */
  readonly id: number;
  /** Kernel settings of it, /proc/sys/net. */
  readonly sysctl: Sysctl;
  readonly #owner: Fd | undefined;
  /** Whether it is this process's own. */
  readonly #own: boolean;
  readonly #sockets = new SocketQueue(this);
  /** A socket of rtnetlink that was made inside already. */
  #route: Fd | undefined;
  #rtnl: Rtnetlink | undefined;
  #cookie: bigint | undefined;

  private constructor(fd: Fd, owner: Fd | undefined, { route, like }: { route?: Fd; like?: NetNS } = {}) {
    this.fd = fd;
    this.#owner = owner;
    this.#route = route;
    if (like) [this.id, this.#own] = [like.id, like.#own];
    else {
      const { ino, dev } = fstatSync(fd.number);
      this.id = ino;
      // No thread of this process ever leaves it.
      own ??= statSync('/proc/self/ns/net');
      this.#own = own.ino === ino && own.dev === dev;
    }
    this.sysctl = new Sysctl(this);
  }

  /**
   * Creates a network namespace. Needs CAP_SYS_ADMIN in the user namespace that is to own it.
   *
   * @param options - how it starts
   * @returns the namespace
   * @throws KernelError `EPERM` without the capability, `ENOSPC` at /proc/sys/user/max_net_namespaces
   */
  static create(options: NetNSOptions = {}): NetNS {
    const { program, made } = creation(options);
    errand(program);
    const { fd, route } = made();
    return new NetNS(fd, options.owner?.duplicate(), { route });
  }

  /**
   * The same as {@link NetNS.create} while the event loop goes on: where others end, the kernel makes one wait for tens of milliseconds.
   *
   * @param options - how it starts; `owner` must stay open until it is done
   * @returns the namespace
   * @throws KernelError as {@link NetNS.create}
   *
   * @example
   * ```ts root
   * import { NetNS } from '@iso/netns';
   * using lab = await NetNS.createAsync();
   * if (lab.rtnl.links.get('lo').up !== true) throw new Error('no loopback');
   * ```
   */
  static async createAsync(options: NetNSOptions = {}): Promise<NetNS> {
    using owner = options.owner?.duplicate();
    const { program, made } = creation({ ...options, ...(owner && { owner }) });
    await errandAsync(program);
    const { fd, route } = made();
    return new NetNS(fd, owner?.duplicate(), { route });
  }

  /**
   * Opens a network namespace that exists.
   *
   * @param source - of a process, a path such as /proc/PID/ns/net, a name of `ip netns`, or a descriptor, which is duplicated
   * @returns the namespace
   * @throws KernelError `ENOENT`, `EACCES` (ptrace access to the process is needed)
   * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what is no network namespace
   */
  static open(source: NetNSSource): NetNS {
    let fd: Fd;
    if ('pid' in source) fd = Fd.open(`/proc/${natural(source.pid)}/ns/net`);
    else if ('path' in source) fd = Fd.open(source.path);
    else if ('name' in source) fd = Fd.open(pinPath(source.name));
    else fd = source.fd.duplicate();
    if (attempt('ioctl', fd, NS_GET_NSTYPE) !== CLONE.NEWNET) {
      fd.close();
      throw invalid('it is no network namespace');
    }
    return new NetNS(fd, foreignOwner(fd));
  }

  /**
   * Another object for the same namespace, that is closed on its own.
   *
   * @returns it
   * @throws KernelError `EMFILE`
   */
  duplicate(): NetNS {
    return new NetNS(this.fd.duplicate(), this.#owner?.duplicate(), { like: this });
  }

  /**
   * The network namespace of this process.
   *
   * @returns it, opened anew
   */
  static self(): NetNS {
    return NetNS.open({ path: '/proc/self/ns/net' });
  }

  /** Number that no other network namespace has or gets until the machine restarts; from Linux 5.14 on. */
  get cookie(): bigint {
    if (this.#cookie === undefined) {
      using socket = this.socket(AF.INET, SOCK.DGRAM);
      const [value, length] = [Buffer.alloc(8), Buffer.from([8, 0, 0, 0])];
      syscall('getsockopt', socket, SOL.SOCKET, SO.NETNS_COOKIE, value, length);
      this.#cookie = value.readBigUInt64LE();
    }
    return this.#cookie;
  }

  /** Links, addresses, routes, rules, neighbours; opened at first use, closed with the namespace object. */
  get rtnl(): Rtnetlink {
    const route = this.#route;
    this.#route = undefined;
    this.#rtnl ??= route ? Rtnetlink.over(route, this) : Rtnetlink.open({ home: this });
    return this.#rtnl;
  }

  /**
   * The same as {@link NetNS.rtnl}, opened while the event loop goes on.
   *
   * @returns it, which is there at once from then on
   * @throws KernelError as {@link NetNS.socket}
   */
  async rtnlAsync(): Promise<Rtnetlink> {
    if (this.#rtnl || this.#route) return this.rtnl;
    const opened = await Rtnetlink.openAsync({ home: this });
    // Somebody may have been quicker, or have closed it.
    if (!this.#rtnl && !this.fd.closed) this.#rtnl = opened;
    else opened.close();
    return this.rtnl;
  }

  /**
   * Opens a socket inside; it stays there, whoever uses it.
   *
   * @param domain - AF_INET is 2, AF_INET6 10, AF_NETLINK 16, AF_PACKET 17
   * @param type - SOCK_STREAM is 1, SOCK_DGRAM 2, SOCK_RAW 3
   * @param protocol - default 0
   * @returns the owned descriptor, close-on-exec
   * @throws KernelError with `step`
   */
  socket(domain: number, type: number, protocol = 0): Fd {
    // Where one is already, one needs no privilege to be.
    if (this.#own) return Fd.own(syscall('socket', domain, type | SOCK.CLOEXEC, protocol));
    let fd: Fd | undefined;
    this.errand((program) =>
      opening(program, 'socket', [domain, type | SOCK.CLOEXEC, protocol], (made) => (fd = made)),
    );
    return fd as Fd;
  }

  /**
   * The same as {@link NetNS.socket} while the event loop goes on.
   *
   * @param domain - as there
   * @param type - as there
   * @param protocol - as there
   * @returns the owned descriptor, close-on-exec
   * @throws KernelError with `step`
   */
  async socketAsync(domain: number, type: number, protocol = 0): Promise<Fd> {
    if (this.#own) return this.socket(domain, type, protocol);
    return this.#sockets.open(domain, type | SOCK.CLOEXEC, protocol);
  }

  /**
   * Makes a tun or tap link inside, or opens one that persists. Needs CAP_NET_ADMIN there, and /dev/net/tun.
   *
   * @param options - name, mode
   * @returns the link: what its descriptor is written comes in by it
   * @throws KernelError `EBUSY` where the link is open already, `EINVAL` where another kind has that name, `ENOENT` without the device
   *
   * @example
   * ```ts root
   * import { NetNS } from '@iso/netns';
   * using lab = NetNS.create();
   * using tap = lab.tun({ mode: 'tap' });
   * if (lab.rtnl.links.get(tap.name).kind !== 'tun') throw new Error('another kind');
   * ```
   */
  tun(options: TunOptions = {}): Tun {
    return openTun(this, options);
  }

  /**
   * A server that listens inside, in this process.
   *
   * @param options - port, address, and what `net.createServer` takes
   * @param onConnection - told of each connection
   * @returns the server; `listening` follows as with any other
   * @throws KernelError `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`
   */
  listen(options: ListenOptions, onConnection?: (socket: Socket) => void): Server {
    return listen(this, options, onConnection);
  }

  /**
   * Connects from inside.
   *
   * @param options - whom to, by IP address
   * @returns the socket, connecting
   * @throws KernelError where the socket cannot be made or bound; `TypeError` for a host that is no address
   */
  connect(options: ConnectOptions): Socket {
    return connect(this, options);
  }

  /**
   * A UDP socket that is bound inside.
   *
   * @param options - address and port
   * @returns the socket, bound already
   * @throws KernelError `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`
   */
  datagram(options: DatagramOptions = {}): DatagramSocket {
    return datagram(this, options);
  }

  /**
   * An agent for `http.request` whose connections start inside.
   *
   * @param options - as `http.Agent` takes them
   * @returns the agent
   */
  agent(options: AgentOptions = {}): Agent {
    return agent(this, options);
  }

  /**
   * An HTTP request from inside, in the manner of `fetch`; redirects are returned, not followed.
   *
   * @param input - the URL, its host an IP address
   * @param init - as `fetch` takes it
   * @returns the response
   * @throws `TypeError` for a host that is no address; the error of the connection
   */
  fetch(input: string | URL, init: RequestInit = {}): Promise<Response> {
    return fetchFrom(this, input, init);
  }

  /**
   * Runs system calls inside: a child joins, makes them and exits; descriptors that it opens are this process's.
   *
   * @param build - adds the steps, phase `host`
   * @throws KernelError with `step`
   */
  errand(build: (program: LaunchProgram) => void): void {
    const program = new LaunchProgram('errand');
    if (!this.#own) this.confine(program);
    build(program);
    errand(program);
  }

  /**
   * The same as {@link NetNS.errand} while the event loop goes on. What its steps name has to stay open until it is done; this namespace may
   * be closed.
   *
   * @param build - adds the steps, phase `host`
   * @throws KernelError with `step`
   */
  async errandAsync(build: (program: LaunchProgram) => void): Promise<void> {
    const program = new LaunchProgram('errand');
    using fd = this.fd.duplicate();
    using owner = this.#owner?.duplicate();
    if (!this.#own) join(program, fd, owner);
    build(program);
    await errandAsync(program);
  }

  /**
   * Pins it to a name of `ip netns`, a file in /run/netns, where it outlives this process. Needs CAP_SYS_ADMIN.
   *
   * @param name - up to 255 bytes, no slash
   * @throws KernelError `EEXIST` where the name is taken, `EPERM`
   */
  pin(name: string): void {
    pin(this.fd, name);
  }

  /**
   * Removes a name of `ip netns`; the namespace lives on while something else holds it.
   *
   * @param name - as it was pinned
   * @throws KernelError `ENOENT` where nothing has that name, `EPERM`
   */
  static unpin(name: string): void {
    unpin(name);
  }

  /**
   * Whether two objects are one namespace.
   *
   * @param other - the other
   * @returns true for the same device and inode
   */
  equals(other: NetNS): boolean {
    const [a, b] = [fstatSync(this.fd.number), fstatSync(other.fd.number)];
    return a.ino === b.ino && a.dev === b.dev;
  }

  /** Joins it: the process starts inside. */
  confine(program: LaunchProgram): void {
    join(program, this.fd, this.#owner);
  }

  /** Lets it go; it ends with its last process, pin, descriptor or socket, its virtual links with it. */
  close(): void {
    this.#rtnl?.close();
    this.#route?.close();
    this.#owner?.close();
    this.fd.close();
  }

  /** The same as {@link NetNS.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

let own: { ino: number; dev: number } | undefined;

function join(program: LaunchProgram, fd: Fd, owner: Fd | undefined): void {
  if (owner) program.join(owner, CLONE.NEWUSER);
  // Joining it changes no credentials, so nobody in it can look at this process through the child.
  program.join(fd, CLONE.NEWNET, { exposed: owner !== undefined });
}

/** The errand that makes a namespace; `made` is what it opened, once that is done. */
function creation({ owner, loopback }: NetNSOptions): { program: LaunchProgram; made: () => { fd: Fd; route: Fd } } {
  const program = new LaunchProgram('errand');
  if (owner) program.join(owner, CLONE.NEWUSER);
  program.unshare(CLONE.NEWNET);
  const fd = program.step('host', 'openat', [AT.FDCWD, '/proc/thread-self/ns/net', O.RDONLY | O.CLOEXEC]);
  // Whoever makes a namespace makes links in it.
  const route = program.step('host', 'socket', [AF.NETLINK, SOCKET_TYPE, NETLINK.ROUTE]);
  if (loopback !== false) {
    const request = Buffer.alloc(40);
    request.write('lo', 0, 'latin1');
    request.writeInt16LE(IFF_UP_RUNNING, 16);
    program.step('host', 'ioctl', [route, SIOCSIFFLAGS, request], {
      text: 'ioctl(socket, SIOCSIFFLAGS, {lo, IFF_UP|IFF_RUNNING})',
    });
  }
  return { program, made: () => ({ fd: Fd.own(fd.value as number), route: Fd.own(route.value as number) }) };
}

/** The user namespace that owns it, where that is below the caller's own: it has to be joined first. */
function foreignOwner(fd: Fd): Fd | undefined {
  const number = attempt('ioctl', fd, NS_GET_USERNS);
  // EPERM: above the caller's own, where joining it would not help.
  if (number < 0) return undefined;
  const owner = Fd.own(number);
  using own = Fd.open('/proc/self/ns/user');
  if (fstatSync(owner.number).ino !== fstatSync(own.number).ino) return owner;
  owner.close();
  return undefined;
}

function natural(pid: number): number {
  if (!Number.isInteger(pid) || pid < 1) throw invalid(`not a pid: ${pid}`);
  return pid;
}
