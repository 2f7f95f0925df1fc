import type { Command } from 'commander';
import { parseBytes, parseCpus, parsePids, UsageError } from '../options.js';
import type { DeviceRate, Resources } from '../resources.js';

/**
 * Adds docker's options on what a container may use; their values are a {@link Resources} by the names of its members.
 *
 * @param command - that gets them
 * @returns the command
 */
export function resourceOptions(command: Command): Command {
  return command
    .option('-m, --memory <bytes>', 'memory limit, for example 64m', parseBytes)
    .option('--memory-swap <bytes>', 'memory and swap together, -1 for all swap that there is', parseMemorySwap)
    .option('--memory-reservation <bytes>', 'memory that is spared where others have some', parseBytes)
    .option('--cpus <number>', 'CPU limit, for example 0.5', parseCpus)
    .option('-c, --cpu-shares <number>', 'share of CPU time, 1024 is what others have', whole('--cpu-shares'))
    .option('--cpuset-cpus <list>', 'processors, for example 0-2,4')
    .option('--cpuset-mems <list>', 'memory nodes')
    .option('--pids-limit <number>', 'most processes, -1 for no limit', parsePids)
    .option('--blkio-weight <number>', 'share of I/O, 10 to 1000', whole('--blkio-weight'))
    .option('--device-read-bps <device:bytes>', 'bytes that are read a second', rates('--device-read-bps', parseBytes))
    .option('--device-write-bps <device:bytes>', 'bytes written a second', rates('--device-write-bps', parseBytes))
    .option('--device-read-iops <device:number>', 'reads a second', rates('--device-read-iops'))
    .option('--device-write-iops <device:number>', 'writes a second', rates('--device-write-iops'));
}

/** What commander has parsed of {@link resourceOptions}; other options are left out. */
export function resourcesOf(flags: Resources): Resources {
  const names = [
    'memory',
    'memorySwap',
    'memoryReservation',
    'oomKillDisable',
    'cpus',
    'cpuShares',
    'cpusetCpus',
    'cpusetMems',
    'pidsLimit',
    'blkioWeight',
    'deviceReadBps',
    'deviceWriteBps',
    'deviceReadIops',
    'deviceWriteIops',
  ] as const satisfies readonly (keyof Resources)[];
  return Object.fromEntries(names.filter((name) => flags[name] !== undefined).map((name) => [name, flags[name]]));
}

const parseMemorySwap = (text: string) => (text === '-1' ? -1 : parseBytes(text));

function whole(option: string): (text: string) => number {
  return (text) => {
    if (!/^\d{1,15}$/.test(text)) throw new UsageError(`${option} is a whole number, not ${JSON.stringify(text)}`);
    return Number(text);
  };
}

/** The number follows the last colon: a device may be MAJOR:MINOR. */
function rates(option: string, parse = whole(option)): (text: string, before?: DeviceRate[]) => DeviceRate[] {
  return (text, before = []) => {
    const [, device, rate] = /^(.+):([^:]*)$/.exec(text) ?? [];
    if (device === undefined || rate === undefined || !/^(\/|\d+:\d+$)/.test(device))
      throw new UsageError(`${option} is DEVICE:RATE, for example /dev/sda:1mb, not ${JSON.stringify(text)}`);
    return [...before, { device, rate: parse(rate) }];
  };
}
