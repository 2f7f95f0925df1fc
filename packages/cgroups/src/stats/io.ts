import { deviceName } from '../limits/device.js';
import type { StatFile } from './file.js';
import type { StatFiles } from './open.js';

/** Of one device. Other figures that the kernel has (cost, latency) are there under its names in camel case. */
export interface DeviceIo {
  /** `sda`; undefined where sysfs does not know it. */
  name: string | undefined;
  rbytes: number | undefined;
  wbytes: number | undefined;
  dbytes: number | undefined;
  rios: number | undefined;
  wios: number | undefined;
  dios: number | undefined;
  max: { rbps: number | 'max'; wbps: number | 'max'; riops: number | 'max'; wiops: number | 'max' } | undefined;
  weight: number | undefined;
  latencyTargetUs: number | undefined;
  /** `costUsage`, `costWait`, `useDelay` and the like. */
  more: Record<string, number | string>;
}

/** Block I/O. */
export interface IoStats {
  /** By `MAJOR:MINOR`. */
  devices: Record<string, DeviceIo>;
  weight: number | undefined;
  bfqWeight: number | undefined;
  prioClass: string | undefined;
}

/** Reads I/O figures. */
export function ioStats(files: StatFiles): IoStats {
  return files.version === 2 ? unified(files) : legacy(files);
}

const plain = ['rbytes', 'wbytes', 'dbytes', 'rios', 'wios', 'dios'] as const;

function unified(files: StatFiles): IoStats {
  const devices: Record<string, DeviceIo> = {};
  const device = (key: string) => (devices[key] ??= emptyDevice(key));
  for (const [key, values] of entries(files.file('io.stat'))) {
    const one = device(key);
    for (const [name, value] of Object.entries(values)) {
      if (isPlain(name)) one[name] = Number(value);
      else one.more[name] = value;
    }
  }
  for (const [key, values] of entries(files.file('io.max'))) device(key).max = values as NonNullable<DeviceIo['max']>;
  for (const [key, { target }] of entries(files.file('io.latency'))) device(key).latencyTargetUs = Number(target);
  const weights = new Map(entries(files.file('io.weight')));
  for (const [key, { value }] of weights) if (key !== 'default') device(key).weight = Number(value);
  return {
    devices,
    weight: optionalNumber(weights.get('default')?.value),
    bfqWeight: optionalNumber(files.file('io.bfq.weight').entries()?.default?.value),
    prioClass: files.file('io.prio.class').text(),
  };
}

/** Which files have figures depends on the scheduler of the device; the throttling layer has them in any case. */
const countersOf = (name: string) =>
  [`bfq.${name}`, name, `throttle.${name}`].flatMap((one) => [`blkio.${one}_recursive`, `blkio.${one}`]);
const counts: { files: readonly string[]; keys: Record<string, (typeof plain)[number]> }[] = [
  { files: countersOf('io_service_bytes'), keys: { Read: 'rbytes', Write: 'wbytes', Discard: 'dbytes' } },
  { files: countersOf('io_serviced'), keys: { Read: 'rios', Write: 'wios', Discard: 'dios' } },
];
const throttles = [
  ['rbps', 'read_bps'],
  ['wbps', 'write_bps'],
  ['riops', 'read_iops'],
  ['wiops', 'write_iops'],
] as const;

function legacy(files: StatFiles): IoStats {
  const devices: Record<string, DeviceIo> = {};
  const device = (key: string) => (devices[key] ??= emptyDevice(key));
  for (const { files: names, keys } of counts) {
    for (const line of firstTold(files, names)?.split('\n') ?? []) {
      const [number = '', operation = '', value] = line.split(' ');
      const key = keys[operation];
      if (value !== undefined && key) device(number)[key] = Number(value);
    }
  }
  for (const [key, file] of throttles) {
    const text = files.file(`blkio.throttle.${file}_device`).text();
    for (const line of text ? text.split('\n') : []) {
      const [number = '', value] = line.split(' ');
      const one = device(number);
      one.max ??= { rbps: 'max', wbps: 'max', riops: 'max', wiops: 'max' };
      one.max[key] = Number(value);
    }
  }
  return {
    devices,
    weight: files.file('blkio.weight').number(),
    bfqWeight: files.file('blkio.bfq.weight').number(),
    prioClass: undefined,
  };
}

/** The text of the first file with figures. */
function firstTold(files: StatFiles, names: readonly string[]): string | undefined {
  for (const name of names) {
    const text = files.file(name).text();
    if (text && text !== 'Total 0') return text;
  }
  return undefined;
}

const names = new Map<string, string | undefined>();

function emptyDevice(number: string): DeviceIo {
  if (!names.has(number)) names.set(number, deviceName(number));
  return {
    name: names.get(number),
    rbytes: undefined,
    wbytes: undefined,
    dbytes: undefined,
    rios: undefined,
    wios: undefined,
    dios: undefined,
    max: undefined,
    weight: undefined,
    latencyTargetUs: undefined,
    more: {},
  };
}

function entries(file: StatFile): [string, Record<string, number | string>][] {
  return Object.entries(file.entries() ?? {});
}

function isPlain(name: string): name is (typeof plain)[number] {
  return (plain as readonly string[]).includes(name);
}

function optionalNumber(value: number | string | undefined): number | undefined {
  return value === undefined ? undefined : Number(value);
}
