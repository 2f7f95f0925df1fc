import type { DriverName } from '@iso/unionfs';
import { type Command, Option } from 'commander';
import { type DeviceMapping, parseDevice } from '../device.js';
import { healthOptions } from '../health/options.js';
import { parseBytes, parseCgroupParent, UsageError } from '../options.js';
import { lifeOptions } from './life-options.js';
import { networkOptions } from './network-options.js';
import { processOptions } from './process-options.js';
import { resourceOptions } from './resources.js';

/** Names of storage drivers; who asks for none loads nothing of images. */
const driverNames = [
  'overlay2',
  'btrfs',
  'zfs',
  'devicemapper',
  'aufs',
  'fuse-overlayfs',
  'vfs',
] as const satisfies DriverName[];

function parseStorage(text: string): number {
  const [name, value = ''] = text.split(/=(.*)/s);
  if (name !== 'size') throw new UsageError(`not an option of storage: ${JSON.stringify(text)}, there is size=BYTES`);
  const size = parseBytes(value);
  if (size < 1 << 20) throw new UsageError(`size= is a mebibyte or more, not ${value}`);
  return size;
}

const collect = (value: string, all: string[] = []) => [...all, value];

/**
 * Adds what a container is made from: arguments and options of `iso create` and `iso run`.
 *
 * @param command - that gets them
 * @returns the command
 */
export function runOptions(command: Command): Command {
  return healthOptions(lifeOptions(networkOptions(processOptions(resourceOptions(command)))))
    .argument(
      '<root>',
      'name or id of an image; or a path: a directory used as read-only lower layer, / for the host’s own root',
    )
    .argument('[command...]', 'program and arguments, default the image’s, of a directory /bin/sh')
    .passThroughOptions()
    .option('--name <name>', 'name of the container, its default host name')
    .option('-i, --interactive', 'pass standard input on')
    .option('-t, --tty', 'give it a terminal')
    .option('-w, --workdir <path>', 'working directory inside')
    .option('-u, --user <user>', 'NAME|UID[:GROUP|GID]')
    .option('-v, --volume <volume>', 'SOURCE:TARGET[:ro,rw,rprivate,rslave], SOURCE /… or ./…', collect)
    .option('--read-only', 'make the root read-only')
    .option('--tmpfs <mount>', 'PATH[:size=,mode=,uid=,gid=,ro,exec,suid,dev]', collect)
    .helpOption('--help', 'display help for command; -h is the host name, as docker’s')
    .option('-h, --hostname <name>', 'host name inside')
    .option('--oom-kill-disable', 'what runs out of memory waits instead (cgroup v1)')
    .option('--device <device>', 'SOURCE[:TARGET][:rwm], a device of the host', (text, all: DeviceMapping[] = []) => [
      ...all,
      parseDevice(text),
    ])
    .option('--cgroup-parent <path>', 'group above its own cgroup, default iso', parseCgroupParent)
    .addOption(new Option('--userns <mode>', 'user namespace').choices(['host', 'private']))
    .option('--init', 'an init as process 1, which reaps orphans and passes signals on')
    .addOption(
      new Option('--pull <when>', 'fetch the image').choices(['always', 'missing', 'never']).default('missing'),
    )
    .addOption(
      new Option('--storage-driver <name>', 'how layers are kept, default the best that works').choices(driverNames),
    )
    .option('--storage-opt <option>', 'size=BYTES: most that its writable layer may hold', parseStorage)
    .option('--entrypoint <program>', 'instead of the image’s');
}
