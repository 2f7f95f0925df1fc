// The first root of the VM: busybox, the modules that reach the host's files, and the two init scripts.

import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { cpio } from './cpio.js';
import { run, which } from './host.js';

const needed = ['virtio_pci', 'virtio_console', 'virtio_blk', '9pnet_virtio', '9p', 'overlay'];

const folder = 0o040755;
const program = 0o100755;
const text = 0o100644;

/**
 * @param {{ release: string, tree: string }} kernel
 * @param {Record<string, string>} settings shell variables of the init scripts
 * @param {string} command shell script that runs the command
 */
export function initramfs(kernel, settings, command) {
  const modules = loadOrder(join(kernel.tree, 'usr/lib/modules', kernel.release), needed);
  const variables = Object.entries({ ...settings, MODULES: modules.map(moduleFile).join(' ') });
  return cpio([
    ...['bin', 'dev', 'proc', 'mnt', 'modules'].map((path) => ({ path, mode: folder })),
    ...['host', 'kernel', 'scratch', 'root', 'repository'].map((name) => ({ path: `mnt/${name}`, mode: folder })),
    { path: 'bin/busybox', mode: program, data: readFileSync(which('busybox')) },
    { path: 'init', mode: program, data: readFileSync(new URL('init.sh', import.meta.url)) },
    { path: 'guest.sh', mode: text, data: readFileSync(new URL('guest.sh', import.meta.url)) },
    { path: 'systemd.sh', mode: text, data: readFileSync(new URL('systemd.sh', import.meta.url)) },
    { path: 'settings', mode: text, data: variables.map(([name, value]) => `${name}=${quote(value)}\n`).join('') },
    { path: 'command', mode: text, data: command },
    ...modules.map((path) => ({ path: `modules/${moduleFile(path)}`, mode: text, data: readModule(path) })),
  ]);
}

/** One word of a POSIX shell script. */
export function quote(word) {
  return `'${word.replaceAll("'", String.raw`'\''`)}'`;
}

/** Files of the wanted modules, each after those it depends on; a module built into the kernel needs no file. */
function loadOrder(modules, wanted) {
  const files = new Map();
  const dependencies = new Map();
  for (const line of readFileSync(join(modules, 'modules.dep'), 'utf8').split('\n')) {
    const [file, rest] = line.split(':');
    if (!file) continue;
    files.set(moduleName(file), file);
    dependencies.set(file, rest.trim().split(' ').filter(Boolean));
  }
  const order = new Set();
  const visit = (file) => {
    if (order.has(file)) return;
    for (const dependency of dependencies.get(file)) visit(dependency);
    order.add(file);
  };
  for (const name of wanted) if (files.has(name)) visit(files.get(name));
  return [...order].map((file) => join(modules, file));
}

function moduleName(file) {
  return basename(file)
    .replace(/\.ko(\.xz)?$/, '')
    .replaceAll('-', '_');
}

function moduleFile(file) {
  return `${moduleName(file)}.ko`;
}

function readModule(path) {
  return path.endsWith('.xz') ? run('busybox', ['xzcat', path], { encoding: 'buffer' }) : readFileSync(path);
}
