import { MountTree } from '@iso/mounts';
import type { BuildExecutor } from '@iso/unionfs';
import { run } from '../container.js';
import { UsageError, type Volume } from '../options.js';
import { mountStubs } from './stubs.js';

/** Files of the host by which names are looked up in its network. */
const RESOLV: Volume = { source: '/etc/resolv.conf', target: '/etc/resolv.conf', readonly: true };

/**
 * Runs commands of a build in containers.
 *
 * @param options - `network`: of those that do not say which; `env`: variables that are no part of the image, nor of what a step is known by
 * @returns the executor
 */
export function containerExecutor(options: { network: 'none' | 'host'; env?: readonly string[] }): BuildExecutor {
  return async ({ argv, env, cwd, user, root, signal, onOutput, network = options.network }) => {
    if (network !== 'none' && network !== 'host')
      throw new UsageError(`a build has the network none or host, not ${network}`);
    using _ = mountStubs(root);
    using mount = MountTree.own(root.duplicate());
    const container = await run({
      root: { source: mount, directory: `/proc/self/fd/${root.number}` },
      command: argv,
      env: [...(options.env ?? []), ...env],
      cwd,
      network,
      stdio: ['ignore', 'pipe', 'pipe'],
      accounting: true,
      ...(network === 'host' ? { volumes: [RESOLV] } : {}),
      ...(user === '' ? {} : { user }),
      ...(signal ? { signal } : {}),
    });
    const { child } = container;
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', onOutput);
    const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
    const { code, signal: killer } = await container.exited;
    await closed;
    return { code, signal: killer };
  };
}
