import { join } from 'node:path';
import { Container } from '../container/container.js';
import { Store } from '../container/store.js';
import type { LogOptions } from '../log.js';

/** What comes before the name of a command. */
export interface GlobalOptions extends LogOptions {
  root?: string;
  systemdCgroup?: boolean;
  cgroupManager?: string;
}

/**
 * Where containers are kept.
 *
 * @param options - `root`, default /run/iso-oci for root and the user's own runtime directory for others
 */
export function openStore({ root }: GlobalOptions): Store {
  const runtime = process.env.XDG_RUNTIME_DIR;
  if (root !== undefined) return new Store(root);
  return new Store(process.getuid?.() === 0 || !runtime ? '/run/iso-oci' : join(runtime, 'iso-oci'));
}

/**
 * A container of the store.
 *
 * @param options - global ones
 * @param id - its name
 */
export function openContainer(options: GlobalOptions, id: string): Container {
  return new Container(openStore(options), id);
}
