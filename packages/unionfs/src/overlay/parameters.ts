import { invalid } from '@iso/sys';

/** What changes how an overlay works. Everything has a value here, because the kernel's own defaults differ from build to build. */
export interface OverlayFeatures {
  /** Keeps overlay's marks in user.* attributes: the only ones that a user namespace may write (Linux 5.11). */
  userxattr?: boolean;
  /** Never syncs the writable layer (Linux 5.10): see `settleVolatile()`. */
  volatile?: boolean;
  /** Copies up attributes without the data. Default off: a layer's files must be whole. Not with `userxattr`. */
  metacopy?: boolean;
  /** `on` renames directories by a mark instead of EXDEV; `nofollow` ignores such marks. Default `off`, with userxattr `nofollow`. */
  redirectDir?: 'on' | 'follow' | 'nofollow' | 'off';
  /** Keeps hard links together when they are copied up, and ties the writable layer to its lower ones. Default off. */
  index?: boolean;
  /** Inode numbers that are unique across layers. Default `off`. */
  xino?: 'on' | 'auto' | 'off';
}

/**
 * The parameters of fsconfig(2) for features.
 *
 * @param features - see {@link OverlayFeatures}
 * @returns keys and values; null for a flag
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what the kernel does not take together
 */
export function overlayParameters(features: OverlayFeatures): [key: string, value: string | null][] {
  const { userxattr, volatile, metacopy = false, index = false, xino = 'off' } = features;
  const redirect = features.redirectDir ?? (userxattr ? 'nofollow' : 'off');
  if (userxattr && metacopy) throw invalid('metacopy needs trusted.* attributes: not with userxattr');
  if (userxattr && redirect !== 'nofollow') throw invalid('with userxattr redirectDir can only be nofollow');
  const onOff = (value: boolean) => (value ? 'on' : 'off');
  return [
    ...(userxattr ? [] : ([['metacopy', onOff(metacopy)]] as [string, string][])),
    ...(userxattr ? [] : ([['index', onOff(index)]] as [string, string][])),
    ['redirect_dir', redirect],
    ['xino', xino],
    ...(userxattr ? ([['userxattr', null]] as [string, null][]) : []),
    ...(volatile ? ([['volatile', null]] as [string, null][]) : []),
  ];
}
