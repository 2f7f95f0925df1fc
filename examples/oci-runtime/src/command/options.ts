import { readFileSync } from 'node:fs';
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
  return new Store(runtime && !isRoot() ? join(runtime, 'iso-oci') : '/run/iso-oci');
}

/** Whether this is the machine's root: that of a user namespace, in which rootless engines call this, is a plain user outside. */
function isRoot(): boolean {
  if (process.getuid?.() !== 0) return false;
  try {
    return /^\s*0\s+0\s+4294967295\n$/.test(readFileSync('/proc/self/uid_map', 'latin1'));
  } catch {
    // A kernel without user namespaces.
    return true;
  }
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
