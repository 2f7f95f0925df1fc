import { FSCONFIG, fsmount, fsopen } from '@iso/mounts';
import { AT, addressOf, attempt, type Fd } from '@iso/sys';

/** What fsconfig(2) takes of a text, NUL included. */
const TEXT = 256;
const text = Buffer.allocUnsafeSlow(TEXT);
/** As numbers, which addresses of this process fit into: a bigint a call would cost more than the call. */
const textAddress = Number(addressOf(text));

/** Keys and values by their addresses: there are few, and each is said once for every layer. */
const words = new Map<string, { bytes: Buffer; address: number }>();

/** Layers by their paths. */
export interface NamedLayers {
  /** The uppermost first. */
  lower: readonly string[];
  writable: { upper: string; work: string } | undefined;
}

/**
 * Mounts an overlay whose layers are named by short paths: one call a layer instead of three, which is what the time goes to where there
 * are many.
 *
 * @param layers - paths
 * @param parameters - features, as `overlayParameters()` has them
 * @param attr - MOUNT_ATTR bits of the mount
 * @returns the detached mount; undefined where it cannot be done so, for whatever reason: who opens the layers learns which
 */
export function mountByNames(
  { lower, writable }: NamedLayers,
  parameters: readonly [key: string, value: string | null][],
  attr: number,
): Fd | undefined {
  using context = fsopen('overlay');
  const { number } = context;
  const set = (key: string, value: string) => {
    return put(value) && attempt('fsconfig', number, FSCONFIG.SET_STRING, word(key), textAddress, 0) === 0;
  };
  const done =
    lower.every((path) => set('lowerdir+', path)) &&
    (!writable || (isClean(writable.work) && set('upperdir', writable.upper) && set('workdir', writable.work))) &&
    parameters.every(([key, value]) => {
      if (value === null) return attempt('fsconfig', number, FSCONFIG.SET_FLAG, word(key), null, 0) === 0;
      return attempt('fsconfig', number, FSCONFIG.SET_STRING, word(key), word(value), 0) === 0;
    }) &&
    attempt('fsconfig', number, FSCONFIG.CMD_CREATE, null, null, 0) === 0;
  return done ? fsmount(context, attr) : undefined;
}

/** Whether no volatile overlay has left its mark. */
function isClean(work: string): boolean {
  return put(`${work}/work/incompat/volatile`) && attempt('faccessat', AT.FDCWD, textAddress, 0) === -2;
}

/** Lays a text where the kernel reads it. Of `upperdir` and `workdir` it takes a backslash for an escape. */
function put(value: string): boolean {
  if (value.length >= TEXT || value.includes('\\') || value.includes('\0') || !value.isWellFormed()) return false;
  const length = text.write(value, 'utf8');
  // What was cut off has no room for its NUL.
  if (length >= TEXT - 3) return false;
  text[length] = 0;
  return length > 0;
}

function word(value: string): number {
  let known = words.get(value);
  if (!known) {
    const bytes = Buffer.from(`${value}\0`);
    known = { bytes, address: Number(addressOf(bytes)) };
    words.set(value, known);
  }
  return known.address;
}
