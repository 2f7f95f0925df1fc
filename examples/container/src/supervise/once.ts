import { startTime } from '@iso/sys';
import type { DriverName } from '@iso/unionfs';
import type { ContainerOptions } from '../assemble.js';
import { networkOf } from '../command/network-options.js';
import { type RunSharing, sharingOf } from '../command/process-options.js';
import { type Container, run } from '../container.js';
import { exitCode } from '../exitcode.js';
import { healthPlan } from '../health/config.js';
import { STARTING } from '../health/health.js';
import { complete, containerOptions } from '../recipe.js';
import { now } from '../state/document.js';
import type { HeldRecord } from '../state/held.js';

/** How one run of a container ended. */
export interface Outcome {
  /** As docker counts: 128 and the number where a signal ended it. */
  exitCode: number;
  oomKilled: boolean;
}

/** So long the output of a container that has ended waits for those who read it. */
const PATIENCE_MS = 2000;

/** Descriptors and what else belongs to whoever runs it. */
export type RunIo = Pick<ContainerOptions, 'stdio' | 'terminal' | 'signal'>;

/**
 * Runs a container once, from its record: mounts its layer, joins its networks, starts it, and undoes all of that when it has ended.
 *
 * @param record - held by this process
 * @param io - its descriptors
 * @param running - told when it runs, and everybody can know; its streams are not read yet
 * @param late - told when it has ended, and its output has not for a while
 * @returns how it ended
 * @throws what `run()` throws, and what its layer and its networks do
 */
export async function runOnce(
  record: HeldRecord,
  io: RunIo,
  running: (container: Container) => void,
  late: () => void = () => {},
): Promise<Outcome> {
  await using options = await launchOptions(record);
  // Whatever fails from here on, nothing of it runs on unknown.
  await using container = await run({ ...options.value, ...io });
  const closed = new Promise<void>((resolve) => container.child.once('close', () => resolve()));
  const { pid } = container.child;
  const { confinement } = container;
  const cgroup = container.cgroup?.path();
  const known = record.update(
    ({ healthcheck }) => ({
      pid,
      pidStart: startTime(pid),
      status: 'running',
      startedAt: now(),
      confinement,
      ...(cgroup === undefined ? {} : { cgroup }),
      ...(healthPlan(healthcheck) ? { health: STARTING } : {}),
    }),
    'start',
  );
  // Nothing of its streams has come yet: that takes a turn of the loop.
  running(container);
  // Somebody wanted its end before it had begun.
  if (known?.stopped) container.child.kill('SIGKILL');
  const exit = await container.exited;
  const timer = setInterval(late, PATIENCE_MS);
  await closed;
  clearInterval(timer);
  return { exitCode: exitCode(exit), oomKilled: exit.oomKilled };
}

/**
 * What `run()` is given to start a container: its layer is mounted, and its networks joined, until that is disposed.
 *
 * @param record - held by this process
 */
export async function launchOptions(record: HeldRecord): Promise<{ value: ContainerOptions } & AsyncDisposable> {
  const { home, id, directory } = record;
  const { name, root, command, flags, image: digest, storageDriver } = record.state;
  const options = containerOptions(root, command, flags);
  const join = networkOf(flags);
  const share = sharingOf(flags);
  // What images need is loaded for them only: a container of a directory starts without.
  const image =
    digest === undefined
      ? undefined
      : await (await import('../image/root.js')).openImageRoot(
          home,
          digest,
          id,
          storageDriver as DriverName | undefined,
        );
  let shared: RunSharing | undefined;
  try {
    shared = share(home);
    const sharing = shared;
    const exposed = Object.keys(image?.config.ExposedPorts ?? {});
    const owner = { id, name, directory, hostname: options.hostname ?? name };
    const joined = await join(home, owner, exposed);
    const whole = complete(image ? { ...options, root: image } : options, flags, image?.config);
    return {
      value: { ...whole, name, network: joined.network, hosts: joined.hosts, ...sharing.options },
      async [Symbol.asyncDispose]() {
        try {
          await joined[Symbol.asyncDispose]();
        } finally {
          sharing[Symbol.dispose]();
          await image?.[Symbol.asyncDispose]();
        }
      },
    };
  } catch (error) {
    shared?.[Symbol.dispose]();
    await image?.[Symbol.asyncDispose]();
    throw error;
  }
}
