import { readFileSync } from 'node:fs';
import { AF, AT, attempt, Fd, KernelError, O, SOCK } from '@iso/sys';
import type { NetNS } from '../namespace/netns.js';
import type { Nft } from '../nft/index.js';

/** The kernel's older firewall, of which nf_tables shows nothing: `linux/netfilter_ipv4/ip_tables.h`. */
const LEGACY = {
  iptables: { names: 'ip_tables_names', domain: AF.INET, level: 0, target: 88 },
  ip6tables: { names: 'ip6_tables_names', domain: AF.INET6, level: 41, target: 140 },
} as const;
const SO_GET_INFO = 64;
const SO_GET_ENTRIES = 65;
const NAME = 32;
/** `struct ipt_getinfo`: name, hooks, five entries, five underflows, number and size. */
const INFO = { size: 84, underflow: 56, bytes: 80 } as const;
const FORWARD = 2;
/** `struct xt_entry_target` before the verdict. */
const TARGET = 32;
const VERDICT_DROP = -1;
const IPPROTO_RAW = 255;

/**
 * Chains of others that drop whatever else lets pass: those of the forward hook whose policy is drop.
 *
 * @param host - namespace that plays the host
 * @param nft - of it
 * @param own - whether a table is one's own
 * @returns as `family table chain`; of iptables-legacy(8) as `iptables filter FORWARD`
 */
export function obstacles(host: NetNS, nft: Nft, own: (table: string) => boolean): string[] {
  const theirs = nft
    .chains()
    .filter(({ hook, table }) => hook?.hook === 'forward' && hook.policy === 'drop' && !own(table))
    .map(({ family, table, name }) => `${family} ${table} ${name}`);
  const legacy = (Object.keys(LEGACY) as (keyof typeof LEGACY)[]).filter((which) => dropsForwarded(host, which));
  return [...theirs, ...legacy.map((which) => `${which} filter FORWARD`)];
}

function dropsForwarded(host: NetNS, which: keyof typeof LEGACY): boolean {
  const { names, domain, level, target } = LEGACY[which];
  // Asking for a table that nobody uses would make one.
  if (!tablesOf(host, names).includes('filter')) return false;
  using socket = host.socket(domain, SOCK.RAW, IPPROTO_RAW);
  const info = Buffer.alloc(INFO.size);
  info.write('filter');
  if (attempt('getsockopt', socket, level, SO_GET_INFO, info, length(info)) < 0) return false;
  const size = info.readUInt32LE(INFO.bytes);
  const entries = Buffer.alloc(NAME + 8 + size);
  entries.write('filter');
  entries.writeUInt32LE(size, NAME);
  // Changed between the two questions: whoever does that is at it just now.
  if (attempt('getsockopt', socket, level, SO_GET_ENTRIES, entries, length(entries)) < 0) return false;
  // The policy is the last rule of a chain.
  const rule = NAME + 8 + info.readUInt32LE(INFO.underflow + 4 * FORWARD);
  return entries.readInt32LE(rule + entries.readUInt16LE(rule + target) + TARGET) === VERDICT_DROP;
}

function length(bytes: Buffer): Buffer {
  const size = Buffer.alloc(4);
  size.writeUInt32LE(bytes.length);
  return size;
}

function tablesOf(host: NetNS, names: string): string[] {
  let file: Fd | undefined;
  try {
    host.errand((program) => {
      const opened = program.step('host', 'openat', [AT.FDCWD, `/proc/self/net/${names}`, O.RDONLY | O.CLOEXEC]);
      program.started(() => {
        file = Fd.own(opened.value as number);
      });
    });
    return file ? readFileSync(file.number, 'utf8').split('\n') : [];
  } catch (error) {
    // A kernel without it, or a user who may not look.
    if (KernelError.is(error, 'ENOENT') || KernelError.is(error, 'EACCES')) return [];
    throw error;
  } finally {
    file?.close();
  }
}
