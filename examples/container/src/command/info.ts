import { readFileSync } from 'node:fs';
import { cpus, hostname, release, totalmem, type } from 'node:os';
import { arch } from 'node:process';
import { detect } from '@iso/cgroups';
import { Command } from 'commander';
import { render } from '../inspect/template.js';
import { say } from '../say.js';
import { home } from '../state/home.js';
import { listContainers } from '../state/record.js';
import { isoVersion } from '../version.js';

/** `iso info`. */
export const info = new Command('info')
  .description('print what there is, and on what machine')
  .option('-f, --format <format>', 'json, or a template, such as {{.Containers}}')
  .action(async ({ format }: { format?: string }) => {
    const found = await gather();
    if (format === 'json') say(process.stdout, `${JSON.stringify(found)}\n`);
    else if (format !== undefined) say(process.stdout, `${render(format, found)}\n`);
    else say(process.stdout, `${lines(found).join('\n')}\n`);
  });

async function gather() {
  const containers = listContainers(home());
  const count = (...wanted: string[]) => containers.filter(({ status }) => wanted.includes(status)).length;
  const { kind } = detect();
  return {
    ServerVersion: isoVersion,
    Containers: containers.length,
    ContainersRunning: count('running', 'restarting', 'starting'),
    ContainersPaused: count('paused'),
    ContainersStopped: count('created', 'exited'),
    Images: await images(),
    LoggingDriver: 'json-file',
    CgroupDriver: 'cgroupfs',
    CgroupVersion: kind === 'unified' ? '2' : '1',
    KernelVersion: release(),
    OperatingSystem: operatingSystem(),
    OSType: type().toLowerCase(),
    Architecture: arch === 'x64' ? 'x86_64' : arch === 'arm64' ? 'aarch64' : arch,
    NCPU: cpus().length,
    MemTotal: totalmem(),
    Name: hostname(),
    DockerRootDir: home(),
    SecurityOptions: ['name=seccomp,profile=builtin', ...(process.getuid?.() === 0 ? [] : ['name=rootless'])],
  };
}

/** Plain users may have no image store. */
async function images(): Promise<number> {
  const { openLayout } = await import('../image/images.js');
  return (await (await openLayout(home())).list()).length;
}

function operatingSystem(): string {
  try {
    return /^PRETTY_NAME="?(.*?)"?$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? type();
  } catch {
    return type();
  }
}

function lines(found: Awaited<ReturnType<typeof gather>>): string[] {
  return [
    `Containers: ${found.Containers}`,
    ` Running: ${found.ContainersRunning}`,
    ` Paused: ${found.ContainersPaused}`,
    ` Stopped: ${found.ContainersStopped}`,
    `Images: ${found.Images}`,
    `Server Version: ${found.ServerVersion}`,
    `Logging Driver: ${found.LoggingDriver}`,
    `Cgroup Driver: ${found.CgroupDriver}`,
    `Cgroup Version: ${found.CgroupVersion}`,
    `Security Options: ${found.SecurityOptions.join(' ')}`,
    `Kernel Version: ${found.KernelVersion}`,
    `Operating System: ${found.OperatingSystem}`,
    `OSType: ${found.OSType}`,
    `Architecture: ${found.Architecture}`,
    `CPUs: ${found.NCPU}`,
    `Total Memory: ${(found.MemTotal / 2 ** 30).toFixed(2)}GiB`,
    `Name: ${found.Name}`,
    `Root Dir: ${found.DockerRootDir}`,
  ];
}
