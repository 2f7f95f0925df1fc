// What the machine under the VM must have.

import { spawnSync } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** The VM cannot run here: a reason to skip, not a failure of what was to be tested. */
export class Unavailable extends Error {
  name = 'Unavailable';
  code = 'VM_UNAVAILABLE';
}

const programs = {
  'qemu-system-x86_64': 'qemu-system-x86',
  busybox: 'busybox-static',
  depmod: 'kmod',
  'dpkg-deb': 'dpkg',
};

/** Installs the programs the VM needs when they are missing and this is a Debian owned by the caller. */
export function prepareHost() {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new Unavailable(`the VM needs Linux on x64, this is ${process.platform} on ${process.arch}`);
  }
  const missing = Object.entries(programs)
    .filter(([program]) => !which(program))
    .map(([, name]) => name);
  if (which('busybox') && isDynamic(which('busybox'))) missing.push('busybox-static');
  if (missing.length === 0) return;
  const list = missing.join(' ');
  if (!isDebian()) throw new Unavailable(`missing ${list}; they are installed by themselves on Debian only`);
  if (process.getuid() !== 0) throw new Unavailable(`missing ${list}; installing them takes root`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  run('apt-get', ['update', '-qq'], { env });
  run('apt-get', ['install', '-qq', '-y', '--no-install-recommends', ...missing], { env });
}

/** The absolute path of a program, also from the folders that a plain user's PATH leaves out. */
export function which(program) {
  for (const folder of [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin']) {
    const path = join(folder, program);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {}
  }
}

/** Runs a program to its end and returns its output; its failure is the VM being unavailable. */
export function run(program, args, options = {}) {
  const result = spawnSync(which(program) ?? program, args, { maxBuffer: 1 << 28, encoding: 'utf8', ...options });
  if (result.error) throw new Unavailable(`${program}: ${result.error.message}`, { cause: result.error });
  if (result.status !== 0) {
    throw new Unavailable(`${program} ${args.join(' ')} failed: ${String(result.stderr || result.stdout).trim()}`);
  }
  return result.stdout;
}

function isDynamic(path) {
  return readFileSync(path).includes('/lib64/ld-linux-x86-64.so.2\0');
}

function isDebian() {
  try {
    return /^ID=debian$/m.test(readFileSync('/etc/os-release', 'utf8'));
  } catch {
    return false;
  }
}
