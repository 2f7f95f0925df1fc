import { addressOf, attempt, Fd, KernelError, UnsupportedError } from '@iso/sys';
import type { CgroupDirectory } from '../raw/directory.js';
import { deviceProgram } from './program.js';
import type { DeviceRule } from './rule.js';

/** Commands and constants of bpf(2), `linux/bpf.h`. */
const BPF = { PROG_LOAD: 5, PROG_ATTACH: 8, PROG_DETACH: 9, PROG_GET_FD_BY_ID: 13, INFO_BY_FD: 15, PROG_QUERY: 16 };
const PROG_TYPE_CGROUP_DEVICE = 15;
const CGROUP_DEVICE = 6;
const ALLOW_MULTI = 2;
const REPLACE = 4;
const NAME = 'iso_devices';

/** An attached device program. */
export interface DeviceProgram {
  id: number;
  /** Name that it was loaded under; ours are called `iso_devices`. */
  name: string;
}

/** A change that can be taken back until it is kept. */
export interface Change {
  undo(): void;
  keep(): void;
}

/**
 * Puts a program of these rules on a v2 group, in place of the one that this package put there before. Programs of others, and
 * those of ancestors, go on to be asked too.
 *
 * @param directory - of the group
 * @param rules - in order
 * @returns puts back what was there, or lets go of it
 * @throws KernelError `EPERM` where this process may not load programs, or an ancestor forbids several; UnsupportedError
 */
export function attachDevices(directory: CgroupDirectory, rules: readonly DeviceRule[]): Change {
  const program = load(deviceProgram(rules), directory);
  const before = attachedDevices(directory).find(({ name }) => name === NAME);
  const old = before && programById(before.id);
  const keep = () => {
    old?.close();
    program.close();
  };
  try {
    attach(directory, program, old);
  } catch (error) {
    keep();
    throw error;
  }
  return {
    keep,
    undo: () => {
      if (old) attach(directory, old, program);
      else detach(directory, program);
      keep();
    },
  };
}

/**
 * Device programs that are attached to a v2 group itself.
 *
 * @param directory - of the group
 * @returns them, the first attached first
 */
export function attachedDevices(directory: CgroupDirectory): DeviceProgram[] {
  const ids = Buffer.alloc(4 * 64);
  // Some kernels write behind the end of a shorter structure.
  const attr = Buffer.alloc(128);
  attr.writeInt32LE(directory.fd.number, 0);
  attr.writeUInt32LE(CGROUP_DEVICE, 4);
  attr.writeBigUInt64LE(addressOf(ids), 16);
  attr.writeUInt32LE(64, 24);
  const result = attempt('bpf', BPF.PROG_QUERY, attr, attr.length);
  if (result < 0) return [];
  return Array.from({ length: attr.readUInt32LE(24) }, (_, i) => {
    const id = ids.readUInt32LE(4 * i);
    return { id, name: nameOf(id) };
  });
}

function detach(directory: CgroupDirectory, program: Fd): void {
  const attr = Buffer.alloc(128);
  attr.writeInt32LE(directory.fd.number, 0);
  attr.writeInt32LE(program.number, 4);
  attr.writeUInt32LE(CGROUP_DEVICE, 8);
  attempt('bpf', BPF.PROG_DETACH, attr, 32);
}

function load(instructions: Buffer, directory: CgroupDirectory): Fd {
  const license = Buffer.from('MIT\0');
  const attr = Buffer.alloc(128);
  attr.writeUInt32LE(PROG_TYPE_CGROUP_DEVICE, 0);
  attr.writeUInt32LE(instructions.length / 8, 4);
  attr.writeBigUInt64LE(addressOf(instructions), 8);
  attr.writeBigUInt64LE(addressOf(license), 16);
  attr.write(NAME, 48, 'latin1');
  const result = attempt('bpf', BPF.PROG_LOAD, attr, 72);
  // Both are read until here.
  if (result >= 0 && instructions.length > 0 && license.length > 0) return Fd.own(result);
  if (result === -38) throw new UnsupportedError('bpf', 'the kernel has no bpf(2), which v2 needs to limit devices');
  throw refusal(result, `bpf(PROG_LOAD, ${instructions.length / 8} instructions)`, directory);
}

function attach(directory: CgroupDirectory, program: Fd, replaced: Fd | undefined): void {
  const attr = Buffer.alloc(128);
  attr.writeInt32LE(directory.fd.number, 0);
  attr.writeInt32LE(program.number, 4);
  attr.writeUInt32LE(CGROUP_DEVICE, 8);
  attr.writeUInt32LE(replaced ? ALLOW_MULTI | REPLACE : ALLOW_MULTI, 12);
  attr.writeInt32LE(replaced?.number ?? 0, 16);
  const result = attempt('bpf', BPF.PROG_ATTACH, attr, 32);
  if (result < 0) throw refusal(result, 'bpf(PROG_ATTACH, BPF_CGROUP_DEVICE)', directory);
}

function refusal(errno: number, call: string, directory: CgroupDirectory): KernelError {
  return new KernelError(errno, {
    syscall: 'bpf',
    call,
    path: directory.path,
    ...(errno === -1
      ? {
          hint: 'limiting devices on v2 needs CAP_BPF and CAP_NET_ADMIN (root), and ancestors that allow several programs',
        }
      : {}),
  });
}

function programById(id: number): Fd | undefined {
  const attr = Buffer.alloc(128);
  attr.writeUInt32LE(id, 0);
  const result = attempt('bpf', BPF.PROG_GET_FD_BY_ID, attr, 32);
  return result < 0 ? undefined : Fd.own(result);
}

function nameOf(id: number): string {
  const program = programById(id);
  if (!program) return '';
  const info = Buffer.alloc(256);
  const attr = Buffer.alloc(128);
  attr.writeInt32LE(program.number, 0);
  attr.writeUInt32LE(info.length, 4);
  attr.writeBigUInt64LE(addressOf(info), 8);
  const result = attempt('bpf', BPF.INFO_BY_FD, attr, 16);
  program.close();
  return result < 0 ? '' : info.toString('latin1', 64, 80).replace(/\0.*$/s, '');
}
