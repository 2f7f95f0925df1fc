import { AT, Fd, type LaunchProgram, O } from '@iso/sys';
import { linkName } from '../route/name.js';
import { IFNAMSIZ, IFREQ } from '../route/raw.js';
import { IFF_TUN, TUN } from './raw.js';

/** A link whose other end is a descriptor. */
export interface TunOptions {
  /** Up to 15 bytes; default the next of `tun0`, `tun1` …, or `tap0`. */
  name?: string;
  /** `tun` carries IP packets, `tap` Ethernet frames. Default `tun`. */
  mode?: 'tun' | 'tap';
  /** The link outlives its descriptor; open it again by its name. */
  persist?: boolean;
  /** User and group, by number, who may open it without CAP_NET_ADMIN. */
  uid?: number;
  gid?: number;
  /** Each packet has a `struct virtio_net_hdr` before it. */
  virtioHeader?: boolean;
}

/** Runs errands inside of a namespace. */
interface Place {
  errand(build: (program: LaunchProgram) => void): void;
}

/**
 * A link whose other end is a descriptor: what is read there left by the link, what is written there came in by it, a packet at a time.
 * Disposing removes the link, unless it is to persist. See the kernel's Documentation/networking/tuntap.rst.
 */
export class Tun implements Disposable {
  /** Its descriptor, not blocking: whoever has it has the link. */
  readonly fd: Fd;
  /** Name of the link. */
  readonly name: string;

  /** @internal */
  constructor(fd: Fd, name: string) {
    this.fd = fd;
    this.name = name;
  }

  /** Closes the descriptor; the link goes, unless it is to persist. */
  close(): void {
    this.fd.close();
  }

  /** The same as {@link Tun.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** Makes the link inside, or opens one that persists. */
export function openTun(place: Place, options: TunOptions): Tun {
  const { name, mode = 'tun', persist, uid, gid, virtioHeader } = options;
  const request = Buffer.alloc(IFREQ);
  request.write(name === undefined ? `${mode}%d` : linkName(name), 'latin1');
  const flags = (mode === 'tun' ? IFF_TUN.TUN : IFF_TUN.TAP) | IFF_TUN.NO_PI | (virtioHeader ? IFF_TUN.VNET_HDR : 0);
  request.writeUInt16LE(flags, IFNAMSIZ);
  let fd: Fd | undefined;
  let given = '';
  place.errand((program) => {
    // The namespace of who opens it is the link's.
    const hint = { ENOENT: 'there is no /dev/net/tun: make it by mknod c 10 200, or mount a /dev that has it' };
    const flags = O.RDWR | O.NONBLOCK | O.CLOEXEC;
    const device = program.step('host', 'openat', [AT.FDCWD, '/dev/net/tun', flags], { hint });
    const set = (text: string, number: number, value: number | Buffer) =>
      program.step('host', 'ioctl', [device, number, value], { text: `ioctl(tun, ${text})` });
    set(`TUNSETIFF, {${name ?? `${mode}%d`}, ${mode}}`, TUN.SETIFF, request);
    if (uid !== undefined) set(`TUNSETOWNER, ${uid}`, TUN.SETOWNER, uid);
    if (gid !== undefined) set(`TUNSETGROUP, ${gid}`, TUN.SETGROUP, gid);
    if (persist !== undefined) set(`TUNSETPERSIST, ${persist}`, TUN.SETPERSIST, persist ? 1 : 0);
    const made = program.output(IFREQ);
    program.step('host', 'ioctl', [device, TUN.GETIFF, made], { text: 'ioctl(tun, TUNGETIFF)' });
    program.started(() => {
      fd = Fd.own(device.value as number);
      given = made.bytes.toString('latin1', 0, made.bytes.indexOf(0));
    });
  });
  return new Tun(fd as Fd, given);
}
