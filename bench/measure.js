// What every row of the benchmark is made of.

/** The middle one. */
export function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

/** A row that cannot be measured here; the peer's name says why. */
export const unavailable = (peerName, unit = 'ms') => ({ ours: null, peer: null, peerName, unit, ratio: null });
