import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { AT, Fd, O } from '@iso/sys';
import { familyOf, ipBytes, ipText } from '../ip/ip.js';
import type { NetNS } from '../namespace/netns.js';

/** What a port is bound to. */
interface BoundPort {
  protocol: 'tcp' | 'udp';
  host: string;
  port: number;
}

const LISTEN = '0A';
const UNCONNECTED = '07';

/**
 * Who has a port, for an error to say.
 *
 * @param netns - where it is taken
 * @param wanted - the port
 * @returns `process 42 (nginx) has 0.0.0.0:80`; undefined where nobody has it any more
 */
export function holderOf(netns: NetNS, wanted: BoundPort): string | undefined {
  const socket = ['', '6']
    .flatMap((family) => socketsOf(netns, `${wanted.protocol}${family}`))
    .find(({ host, port }) => port === wanted.port && shareAddress(host, wanted.host));
  if (!socket) return undefined;
  const place = `${socket.host.includes(':') ? `[${socket.host}]` : socket.host}:${socket.port}`;
  const holder = processWith(`socket:[${socket.inode}]`);
  return `${holder ?? 'somebody whose descriptors may not be looked at'} has ${place}`;
}

/** The sockets that are bound, proc(5) `/proc/net/tcp`. */
function socketsOf(netns: NetNS, table: string): { host: string; port: number; inode: string }[] {
  let number = -1;
  netns.errand((program) => {
    const file = program.step('host', 'openat', [AT.FDCWD, `/proc/thread-self/net/${table}`, O.RDONLY | O.CLOEXEC], {
      ignore: ['ENOENT'],
    });
    program.started(() => {
      number = file.value as number;
    });
  });
  // A kernel without IPv6.
  if (number < 0) return [];
  using file = Fd.own(number);
  const lines = readFileSync(file.number, 'latin1').trim().split('\n').slice(1);
  return lines.flatMap((line) => {
    const [, local, , state, , , , , , inode] = line.trim().split(/\s+/);
    if (!local || !inode || (state !== LISTEN && state !== UNCONNECTED)) return [];
    const [address, port] = local.split(':') as [string, string];
    return [{ host: addressOf(address), port: Number.parseInt(port, 16), inode }];
  });
}

/** Words of 32 bits in this machine's order, each written as a number. */
function addressOf(text: string): string {
  const bytes = Buffer.from(text, 'hex');
  return ipText(bytes.swap32());
}

/** Whether two sockets cannot have the same port. */
function shareAddress(has: string, wants: string): boolean {
  if (has === wants || has === '::') return true;
  if (has === '0.0.0.0') return familyOf(wants) === 4 || wants === '::';
  if (wants === '0.0.0.0') return familyOf(has) === 4;
  return wants === '::' && (familyOf(has) === 6 || ipBytes(has).length === 4);
}

function processWith(link: string): string | undefined {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  const pid = pids.find((each) =>
    known(() => readdirSync(`/proc/${each}/fd`))?.some((fd) => linkOf(each, fd) === link),
  );
  return pid && `process ${pid} (${known(() => readFileSync(`/proc/${pid}/comm`, 'utf8'))?.trim()})`;
}

function linkOf(pid: string, fd: string): string | undefined {
  return known(() => readlinkSync(`/proc/${pid}/fd/${fd}`));
}

/** Undefined for what is gone meanwhile, or somebody else's. */
function known<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
