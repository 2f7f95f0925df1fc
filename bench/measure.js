// What every row of the benchmark is made of.

/** The middle one. */
export function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

/** A row that cannot be measured here; the peer's name says why. */
export const unavailable = (peerName, unit = 'ms') => ({ ours: null, peer: null, peerName, unit, ratio: null });

/** Milliseconds that some work took. */
export async function timed(work) {
  const start = performance.now();
  const own = await work();
  // Who measures itself returns its milliseconds.
  return typeof own === 'number' ? own : performance.now() - start;
}

/** The median of some runs, one after the other: the kernel tidies up after each for a while. */
export async function inARow(count, work) {
  const times = [];
  for (let i = 0; i < count; i++) times.push(await timed(() => work(i)));
  return median(times);
}

/** The mean of many runs that are too short to be timed one by one. */
export async function together(count, work) {
  const start = performance.now();
  for (let i = 0; i < count; i++) await work(i);
  return (performance.now() - start) / count;
}

/** Rounds that warm both up: caches, the compiler of JavaScript. */
const WARM_UP = 2;

/**
 * Ours, theirs; theirs, ours; …: a drift of the machine meets both. Medians of each in milliseconds; the ratio is the median of
 * the rounds' own, for what else the machine does at a time meets both of a round, not all rounds.
 */
export async function compare(rounds, ours, theirs, peerName) {
  const times = { ours: [], theirs: [] };
  const both = [
    ['ours', ours],
    ['theirs', theirs],
  ];
  for (let round = -WARM_UP; round < rounds; round++) {
    for (const [who, work] of round % 2 ? both.toReversed() : both) {
      const took = await timed(work);
      if (round >= 0) times[who].push(took);
    }
  }
  const ratio = median(times.ours.map((own, i) => own / times.theirs[i]));
  return { ours: median(times.ours), peer: median(times.theirs), peerName, unit: 'ms', ratio };
}
