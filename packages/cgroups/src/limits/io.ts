import { invalid } from '@iso/sys';
import { bytes, choice, entries, integer, integerOrMax, list, oneWord, onlyKeys } from '../value.js';
import { ioToBlkioWeight } from './convert.js';
import { deviceNumber } from './device.js';
import type { IoLimits } from './limits.js';
import type { PlanContext } from './plan.js';

const throttles = [
  ['rbps', 'blkio.throttle.read_bps_device'],
  ['wbps', 'blkio.throttle.write_bps_device'],
  ['riops', 'blkio.throttle.read_iops_device'],
  ['wiops', 'blkio.throttle.write_iops_device'],
] as const;

/** Writes of {@link IoLimits}: one device a write. */
export function planIo(limits: IoLimits, context: PlanContext): void {
  onlyKeys(limits, 'io', ['weight', 'deviceWeight', 'bfqWeight', 'max', 'latency', 'cost', 'prioClass']);
  const { version, write, lacks } = context;
  planWeight(limits, context);
  for (const entry of list(limits.max, 'io.max')) {
    onlyKeys(entry, 'io.max', ['device', ...throttles.map(([key]) => key)]);
    const device = deviceNumber(entry.device);
    const wanted = throttles.flatMap(([key, file]) => {
      const value = entry[key];
      if (value === undefined) return [];
      const name = `io.max.${key}`;
      const amount = key === 'rbps' || key === 'wbps' ? bytes(value, name) : integerOrMax(value, name);
      if (amount === 0) throw invalid(`${name} must be above 0, or 'max'`);
      return [{ key, file, amount }];
    });
    if (version === 1) {
      // There 0 means none.
      for (const { file, amount } of wanted) write(file, `${device} ${amount === 'max' ? 0 : amount}`, 'entry');
    } else if (wanted.length) {
      write('io.max', `${device} ${wanted.map(({ key, amount }) => `${key}=${amount}`).join(' ')}`, 'entry');
    }
  }
  for (const entry of list(limits.latency, 'io.latency')) {
    onlyKeys(entry, 'io.latency', ['device', 'targetUs']);
    const { device, targetUs } = entry;
    const target = integer(targetUs, 'io.latency.targetUs', 0);
    if (version === 2) write('io.latency', `${deviceNumber(device)} target=${target}`, 'entry');
    else lacks('latency');
  }
  for (const entry of list(limits.cost, 'io.cost')) {
    onlyKeys(entry, 'io.cost', ['device', 'qos', 'model']);
    const number = deviceNumber(entry.device);
    for (const key of ['model', 'qos'] as const) {
      const values = entry[key];
      if (values === undefined) continue;
      const line = `${number} ${pairs(values)}`;
      if (version === 2) write(`io.cost.${key}`, line, 'entry');
      else lacks('cost');
    }
  }
  if (limits.prioClass !== undefined) {
    const choices = ['no-change', 'promote-to-rt', 'restrict-to-be', 'idle'] as const;
    const value = choice(limits.prioClass, 'io.prioClass', choices);
    if (version === 2) write('io.prio.class', value);
    else lacks('prioClass');
  }
}

function planWeight(limits: IoLimits, { version, read, write, lacks }: PlanContext): void {
  const files = version === 2 ? ['io.bfq.weight', 'io.weight'] : ['blkio.bfq.weight', 'blkio.weight'];
  // bfq's file is there only where bfq is, and then it is the one that counts.
  const file = files.find((name) => read(name) !== undefined) ?? (files[1] as string);
  const converted = (weight: number) => (file === 'io.weight' ? weight : ioToBlkioWeight(weight));
  const lines = version === 2 ? 'entry' : 'value';
  if (limits.weight !== undefined) {
    const weight = converted(integer(limits.weight, 'io.weight', 1, 10_000));
    write(file, version === 2 ? `default ${weight}` : weight, lines);
  }
  if (limits.bfqWeight !== undefined) {
    const weight = integer(limits.bfqWeight, 'io.bfqWeight', 1, 1000);
    if (limits.weight !== undefined) lacks('weight beside bfqWeight');
    write(files[0] as string, version === 2 ? `default ${weight}` : weight, lines);
  }
  // Last: bfq forgets the weights of devices where the group's own is written.
  for (const entry of list(limits.deviceWeight, 'io.deviceWeight')) {
    onlyKeys(entry, 'io.deviceWeight', ['device', 'weight']);
    const { device, weight } = entry;
    const value = converted(integer(weight, 'io.deviceWeight.weight', 1, 10_000));
    write(version === 2 ? file : `${file}_device`, `${deviceNumber(device)} ${value}`, 'entry');
  }
}

function pairs(values: Record<string, string | number>): string {
  return entries(values, 'io.cost')
    .map(([key, value]) => {
      const number = typeof value === 'number' && Number.isFinite(value) && value >= 0;
      return `${oneWord(key, 'io.cost')}=${number ? value : oneWord(value, `io.cost.${key}`)}`;
    })
    .join(' ');
}
