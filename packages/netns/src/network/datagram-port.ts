import { addressOf, attempt, type Fd, FdWatcher, SOCK, syscall } from '@iso/sys';
import { type AsyncPlace, boundAsync } from '../namespace/server.js';

const IPPROTO = { IP: 0, IPV6: 41 } as const;
const OPTION = { IP_PKTINFO: 8, IPV6_RECVPKTINFO: 49, IPV6_PKTINFO: 50 } as const;
const MSGHDR = { size: 56, name: 0, nameLength: 8, iov: 16, iovLength: 24, control: 32, controlLength: 40 } as const;
const CMSGHDR = 16;
const LARGEST = 65536;
const NAME = 28;
const CONTROL = 64;
/** Datagrams that are read in one turn of the event loop. */
const TURN = 64;
const DONTWAIT = 0x40;

/** Who sent a datagram, and to which address; with it an answer comes from there. */
export interface Sender {
  /** Tells apart who sent from where to which address. */
  readonly key: string;
  /** Answers; what cannot be sent is lost. */
  reply(bytes: Uint8Array): void;
}

const one = Buffer.from([1, 0, 0, 0]);
// One for all ports: each datagram is copied out before another is read.
const bytes = Buffer.alloc(LARGEST);
const name = Buffer.alloc(NAME);
const control = Buffer.alloc(CONTROL);

/**
 * A UDP port whose answers come from the address that was asked. A plain socket that is bound to all addresses answers from whichever
 * is nearest to the asker, and a machine with several is then not understood: by a box that asked the host by its address outside.
 */
export class DatagramPort implements Disposable {
  /** The port's number. */
  readonly port: number;
  readonly #fd: Fd;
  readonly #watcher: FdWatcher;
  readonly #six: boolean;
  #closed = false;

  /**
   * Opens one.
   *
   * @param place - namespace
   * @param options - address, port; 0 takes a free one
   * @param onDatagram - told of each
   * @returns it, receiving
   * @throws KernelError `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`
   */
  static async open(
    place: AsyncPlace,
    options: { host: string; port: number; ipv6Only?: boolean },
    onDatagram: (bytes: Buffer, sender: Sender) => void,
  ): Promise<DatagramPort> {
    return new DatagramPort(await boundAsync(place, SOCK.DGRAM, options), options.host.includes(':'), onDatagram);
  }

  private constructor(fd: Fd, six: boolean, onDatagram: (bytes: Buffer, sender: Sender) => void) {
    this.#six = six;
    this.#fd = fd;
    try {
      if (this.#six) syscall('setsockopt', this.#fd, IPPROTO.IPV6, OPTION.IPV6_RECVPKTINFO, one, 4);
      else syscall('setsockopt', this.#fd, IPPROTO.IP, OPTION.IP_PKTINFO, one, 4);
      const length = Buffer.from([NAME, 0, 0, 0]);
      syscall('getsockname', this.#fd, name, length);
      this.port = name.readUInt16BE(2);
      this.#watcher = new FdWatcher(this.#fd, 'readable', () => {
        for (let i = 0; i < TURN && !this.#closed && this.#receive(onDatagram); i++);
      });
    } catch (error) {
      this.#fd.close();
      throw error;
    }
  }

  #receive(tell: (bytes: Buffer, sender: Sender) => void): boolean {
    control.fill(0);
    const length = attempt('recvmsg', this.#fd, header(name, NAME, bytes, control, CONTROL), DONTWAIT);
    // An error of an earlier answer, such as one that nobody took, is read away like a datagram; EAGAIN ends the turn.
    if (length < 0) return length !== -EAGAIN;
    const asked = this.#asked();
    if (!asked) return true;
    const from = Buffer.from(name.subarray(0, this.#six ? NAME : 16));
    tell(Buffer.from(bytes.subarray(0, length)), {
      key: `${from.toString('hex')} ${asked.toString('hex')}`,
      reply: (answer) => this.#send(answer, from, asked),
    });
    return true;
  }

  /** The control message by which an answer leaves from the address that was asked. */
  #asked(): Buffer | undefined {
    const [level, type, size] = this.#six
      ? [IPPROTO.IPV6, OPTION.IPV6_PKTINFO, 20]
      : [IPPROTO.IP, OPTION.IP_PKTINFO, 12];
    if (control.readUInt32LE(8) !== level || control.readUInt32LE(12) !== type) return undefined;
    const asked = Buffer.from(control.subarray(0, (CMSGHDR + size + 7) & ~7));
    if (!this.#six) {
      // By whichever link it came: the routes say how the answer goes.
      asked.writeInt32LE(0, CMSGHDR);
      return asked;
    }
    const linkLocal = asked[CMSGHDR] === 0xfe && ((asked[CMSGHDR + 1] as number) & 0xc0) === 0x80;
    if (!linkLocal) asked.writeInt32LE(0, CMSGHDR + 16);
    return asked;
  }

  #send(answer: Uint8Array, to: Buffer, from: Buffer): void {
    if (this.#closed) return;
    attempt('sendmsg', this.#fd, header(to, to.length, answer, from, from.length), DONTWAIT);
  }

  /** Gives the port back. Again does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watcher.close();
    this.#fd.close();
  }

  /** The same as {@link DatagramPort.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

const EAGAIN = 11;
const iov = Buffer.alloc(16);
const message = Buffer.alloc(MSGHDR.size);

/** `struct msghdr`, of which there is one: it is read and filled within a call. */
function header(address: Buffer, length: number, data: Uint8Array, ancillary: Buffer, ancillaryLength: number): Buffer {
  iov.writeBigUInt64LE(data.length ? addressOf(data) : 0n, 0);
  iov.writeBigUInt64LE(BigInt(data.length), 8);
  message.fill(0);
  message.writeBigUInt64LE(addressOf(address), MSGHDR.name);
  message.writeUInt32LE(length, MSGHDR.nameLength);
  message.writeBigUInt64LE(addressOf(iov), MSGHDR.iov);
  message.writeBigUInt64LE(1n, MSGHDR.iovLength);
  message.writeBigUInt64LE(addressOf(ancillary), MSGHDR.control);
  message.writeBigUInt64LE(BigInt(ancillaryLength), MSGHDR.controlLength);
  return message;
}
