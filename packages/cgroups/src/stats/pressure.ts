import type { StatFiles } from './open.js';

/** How long tasks stood still for a resource: averages in percent, the sum in microseconds. */
export interface Stall {
  avg10: number;
  avg60: number;
  avg300: number;
  totalUsec: number;
}

/** `some`: at least one task waited; `full`: all of them did. */
export interface Pressure {
  some?: Stall;
  full?: Stall;
}

/** By resource; undefined where pressure accounting is off (`psi=0`, `cgroup.pressure` 0). */
export interface PressureStats {
  cpu: Pressure | undefined;
  memory: Pressure | undefined;
  io: Pressure | undefined;
  irq: Pressure | undefined;
}

/** Reads the pressure files. */
export function pressureStats(files: StatFiles): PressureStats {
  const one = (resource: string) => parsePressure(files.file(`${resource}.pressure`).text());
  return { cpu: one('cpu'), memory: one('memory'), io: one('io'), irq: one('irq') };
}

/**
 * Text of a pressure file.
 *
 * @param text - `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, a line each
 * @returns the figures
 */
export function parsePressure(text: string | undefined): Pressure | undefined {
  if (!text) return undefined;
  const result: Pressure = {};
  for (const line of text.split('\n')) {
    const [kind, ...words] = line.split(' ');
    const [avg10 = 0, avg60 = 0, avg300 = 0, totalUsec = 0] = words.map((word) => Number(word.split('=')[1]));
    if (kind === 'some' || kind === 'full') result[kind] = { avg10, avg60, avg300, totalUsec };
  }
  return result;
}
