// One run of the VM, from power-on to the exit of its command.

import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { prepareHost, Unavailable, which } from './host.js';
import { initramfs, quote } from './initramfs.js';
import { kernel as unpackedKernel } from './kernel.js';

const repository = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

/** An empty disk of the machine's own, as the command finds it in `ISO_DISK`; it takes no more room than what is written to it. */
const disk = { device: '/dev/vda', bytes: 256 * 2 ** 20 };

/**
 * Runs a command as root in a VM that sees the host's files at the same paths. What it writes is thrown away, except
 * below `results`.
 * @param {object} options
 * @param {'bookworm' | 'backports' | 'sid'} options.kernel
 * @param {string[]} options.command program and arguments, run in the repository's root
 * @param {'command' | 'systemd'} [options.init] what is process 1: a shell that runs the command, or systemd with the command as its
 * service, in a delegated cgroup
 * @param {number} [options.timeoutMs] for the whole run, boot included
 * @param {string} [options.diskImage] file that is the disk instead of an empty one, and stays
 * @param {string} [options.results] folder shared read-write under its own path
 * @param {(chunk: Buffer) => void} [options.onStdout]
 * @param {(chunk: Buffer) => void} [options.onStderr]
 * @param {(chunk: Buffer) => void} [options.onConsole] kernel log and the output of the init scripts
 * @param {(started: { release: string, bootSeconds: number }) => void} [options.onReady] the command starts now
 * @returns {Promise<{ exitCode: number, release: string, bootSeconds: number, seconds: number }>}
 * @throws {Unavailable} when the VM cannot run on this machine
 */
export async function runInVm({
  kernel: name,
  command,
  init = 'command',
  timeoutMs = 600_000,
  results,
  diskImage,
  ...listeners
}) {
  prepareHost();
  const kernel = unpackedKernel(name, join(repository, '.cache/vm'));
  const shared = results === undefined ? undefined : resolve(results);
  if (shared !== undefined) mkdirSync(shared, { recursive: true });
  const folder = mkdtempSync(join(tmpdir(), 'iso-vm-'));
  try {
    const initrd = join(folder, 'initramfs');
    const settings = { REPOSITORY: repository, RESULTS: shared ?? '', INIT: init };
    writeFileSync(initrd, initramfs(kernel, settings, commandScript(name, command)));
    const image = diskImage ?? join(folder, 'disk');
    if (diskImage === undefined) {
      writeFileSync(image, '');
      truncateSync(image, disk.bytes);
    }
    return await powerOn(qemuArguments(kernel, initrd, image, shared), timeoutMs, listeners);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function commandScript(name, command) {
  const path = process.env.PATH ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
  const variables = {
    PATH: path,
    HOME: '/root',
    USER: 'root',
    LANG: 'C.UTF-8',
    TERM: 'dumb',
    ISO_VM: name,
    ISO_DISK: disk.device,
  };
  const environment = Object.entries(variables).map(([variable, value]) => quote(`${variable}=${value}`));
  return `cd ${quote(repository)} || exit 127\nexec env -i ${environment.join(' ')} ${command.map(quote).join(' ')}\n`;
}

function qemuArguments({ image, tree }, initrd, diskImage, results) {
  const shares = [
    ['host', '/', 'on'],
    ['kernel', tree, 'on'],
  ];
  if (results !== undefined) shares.push(['results', results, 'off']);
  const options = [
    ['accel', 'tcg,thread=multi'],
    ['cpu', 'max'],
    ['smp', '2'],
    ['m', '1536'],
    ['nodefaults'],
    ['no-user-config'],
    ['no-reboot'],
    ['display', 'none'],
    ['kernel', image],
    ['initrd', initrd],
    ['append', 'console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr tsc=reliable random.trust_cpu=on'],
    ['serial', 'stdio'],
    ['drive', `if=none,id=disk,file=${escaped(diskImage)},format=raw,cache=unsafe`],
    ['device', 'virtio-blk-pci,drive=disk'],
    ['device', 'virtio-serial-pci'],
    ...['stdout', 'stderr', 'status'].flatMap((port, index) => [
      ['chardev', `socket,id=${port},fd=${index + 3}`],
      ['device', `virtserialport,chardev=${port},name=${port}`],
    ]),
    ...shares.flatMap(([tag, path, readonly]) => [
      ['fsdev', `local,id=${tag},path=${escaped(path)},security_model=none,multidevs=remap,readonly=${readonly}`],
      ['device', `virtio-9p-pci,fsdev=${tag},mount_tag=${tag}`],
    ]),
  ];
  return options.flatMap(([option, ...values]) => [`-${option}`, ...values]);
}

/** A path in an option of qemu's. */
function escaped(path) {
  return path.replaceAll(',', ',,');
}

function powerOn(args, timeoutMs, { onStdout, onStderr, onConsole, onReady }) {
  return new Promise((fulfil, reject) => {
    const start = performance.now();
    const seconds = () => (performance.now() - start) / 1000;
    // The VM must not outlive its caller, however that ends.
    const program = ['--pdeathsig', 'KILL', which('qemu-system-x86_64')];
    const machine = spawn('setpriv', [...program, ...args], { stdio: ['ignore', ...Array(5).fill('pipe')] });
    const [, serial, errors, stdout, stderr, status] = machine.stdio;
    const report = { release: undefined, bootSeconds: undefined, exitCode: undefined };
    let console = '';
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      machine.kill('SIGKILL');
    }, timeoutMs);

    for (const stream of [serial, errors]) {
      stream.on('data', (chunk) => {
        onConsole?.(chunk);
        console = (console + chunk).slice(-8192);
      });
    }
    stdout.on('data', (chunk) => onStdout?.(chunk));
    stderr.on('data', (chunk) => onStderr?.(chunk));
    let statusText = '';
    status.on('data', (chunk) => {
      statusText += chunk;
      const ready = /^ready (\S+)\n/.exec(statusText);
      if (ready && report.release === undefined) {
        report.release = ready[1];
        report.bootSeconds = seconds();
        onReady?.({ release: report.release, bootSeconds: report.bootSeconds });
      }
      const exit = /^exit (\d+)\n/m.exec(statusText);
      if (exit) report.exitCode = Number(exit[1]);
    });

    machine.on('error', (error) => {
      clearTimeout(timer);
      reject(new Unavailable(`setpriv: ${error.message}`, { cause: error }));
    });
    machine.on('close', (code, signal) => {
      clearTimeout(timer);
      if (report.exitCode !== undefined) return fulfil({ ...report, seconds: seconds() });
      const why = timedOut ? `was stopped after ${timeoutMs} ms` : `ended (${signal ?? code}) before its command did`;
      const error = new Error(`the VM ${why}; the end of its console:\n${console}`);
      error.code = timedOut ? 'VM_TIMEOUT' : 'VM_CRASHED';
      reject(error);
    });
  });
}
