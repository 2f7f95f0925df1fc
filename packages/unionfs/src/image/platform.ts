import { invalid } from '@iso/sys';
import { ImageError } from '../content/error.js';
import type { Descriptor, Platform } from './document.js';

/** Go's names for what Node calls otherwise. */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: 'amd64',
  ia32: '386',
  ppc64: 'ppc64le',
  mipsel: 'mipsle',
};
/** What people write for the same. */
const ALIASES: Readonly<Record<string, string>> = { x86_64: 'amd64', 'x86-64': 'amd64', aarch64: 'arm64', i386: '386' };

const KNOWN = new Set([
  ...['386', 'amd64', 'arm', 'arm64', 'loong64', 'mips', 'mips64', 'mips64le', 'mipsle'],
  ...['ppc64', 'ppc64le', 'riscv64', 's390x', 'wasm'],
]);

/**
 * The platform of this machine.
 *
 * @returns for example `{ os: 'linux', architecture: 'amd64' }`
 */
export function hostPlatform(): Platform {
  const architecture = Object.hasOwn(ARCHITECTURES, process.arch) ? ARCHITECTURES[process.arch] : process.arch;
  return { os: 'linux', architecture: architecture as string };
}

/**
 * Takes a platform apart.
 *
 * @param text - for example `linux/arm64/v8`, `arm64`, `arm/v7`
 * @returns its parts
 * @throws {@link ImageError} `badName`
 */
export function parsePlatform(text: string): Platform {
  const parts = text.split('/');
  if (parts.length > 3 || !parts.every((part) => /^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(part))) {
    throw new ImageError('badName', `not a platform: ${JSON.stringify(text.slice(0, 200))}`);
  }
  // Without a system it is Linux.
  const [os, written, variant] = isArchitecture(parts[0] as string) ? ['linux', ...parts] : parts;
  if (written === undefined || parts.length > (os === parts[0] ? 3 : 2)) {
    throw new ImageError('badName', `not a platform: ${JSON.stringify(text.slice(0, 200))}`);
  }
  const name = (written as string).toLowerCase();
  const architecture = Object.hasOwn(ALIASES, name) ? (ALIASES[name] as string) : name;
  return { os: (os as string).toLowerCase(), architecture, ...(variant ? { variant } : {}) };
}

/**
 * A platform as people write it.
 *
 * @param platform - its parts
 * @returns for example `linux/arm64/v8`
 */
export function formatPlatform({ os, architecture, variant }: Platform): string {
  return [os, architecture, variant].filter(Boolean).join('/');
}

function isArchitecture(text: string): boolean {
  const name = text.toLowerCase();
  return Object.hasOwn(ALIASES, name) || KNOWN.has(name);
}

/** Variants that stand for none: what every processor of the architecture can. */
const PLAIN: Readonly<Record<string, string>> = { amd64: 'v1', arm64: 'v8', arm: 'v7' };

/**
 * Refuses what is no platform: its text, for which there is {@link parsePlatform}.
 *
 * @param value - what was given
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function checkPlatform(value: Platform | undefined): void {
  if (value === undefined) return;
  if (
    typeof value !== 'object' ||
    value === null ||
    typeof value.os !== 'string' ||
    typeof value.architecture !== 'string'
  )
    throw invalid(
      `platform is ${JSON.stringify(value)}: not an object with os and architecture; parsePlatform() makes one of a text`,
    );
}

/** How well an image suits: 0 not at all, else more is better. An older variant runs, a newer one does not. */
function suits(wanted: Platform, image: Platform): number {
  if (wanted.os !== image.os || wanted.architecture !== image.architecture) return 0;
  const plain = Object.hasOwn(PLAIN, wanted.architecture) ? (PLAIN[wanted.architecture] as string) : '';
  const level = ({ variant }: Platform) => Number(/^v(\d+)$/.exec(variant ?? plain)?.[1] ?? Number.NaN);
  const [most, needs] = [level(wanted), level(image)];
  if ((wanted.variant ?? plain) === (image.variant ?? plain)) return 1000;
  return needs < most ? 1 + needs : 0;
}

/**
 * The image of an index for a platform: that very one, or the best older variant.
 *
 * @param descriptors - of the index
 * @param wanted - the platform
 * @returns one of them
 * @throws {@link ImageError} `noPlatform`, with those that there are
 */
export function selectPlatform(descriptors: readonly Descriptor[], wanted: Platform): Descriptor {
  let best: Descriptor | undefined;
  let most = 0;
  for (const descriptor of descriptors) {
    const score = descriptor.platform ? suits(wanted, descriptor.platform) : 0;
    if (score <= most) continue;
    most = score;
    best = descriptor;
  }
  if (best) return best;
  // An index of one image need not say for what.
  const [only, second] = descriptors;
  if (only && !second && !only.platform) return only;
  const there = descriptors.flatMap(({ platform }) => (platform ? [formatPlatform(platform)] : []));
  throw new ImageError('noPlatform', `no image for ${formatPlatform(wanted)}`, {
    hint: there.length ? `there are ${[...new Set(there)].slice(0, 20).join(', ')}` : 'the index names no platforms',
  });
}
