import type { Supervisor } from '@iso/seccomp';
import type { Config } from '../config/spec.js';
import { RuntimeError } from '../error.js';
import { connectTo, sendBeside } from './socket.js';
import { OCI_VERSION, type State } from './state.js';

/**
 * Gives the listener of a filter to the agent that its configuration names, which answers system calls from then on: see "The Container
 * Process State" in config-linux.md of the runtime specification.
 *
 * @param supervisor - of the launch
 * @param config - of the container
 * @param pid - of the process under the filter
 * @param state - of the container
 * @returns settles when the agent has it, or there is none because the launch has failed
 * @throws {@link RuntimeError} where there is no such agent
 */
export async function engage(supervisor: Supervisor, { linux }: Config, pid: number, state: State): Promise<void> {
  using listener = await supervisor.release();
  if (!listener) return;
  const { listenerPath = '', listenerMetadata: metadata } = linux?.seccomp ?? {};
  const told = {
    ociVersion: OCI_VERSION,
    fds: ['seccompFd'],
    pid,
    ...(metadata === undefined ? {} : { metadata }),
    state,
  };
  using socket = connectTo(listenerPath, 'seccomp agent');
  try {
    sendBeside(socket, JSON.stringify(told), listener);
  } catch (error) {
    throw new RuntimeError(`seccomp agent ${listenerPath}: ${(error as Error).message}`, { cause: error });
  }
}
