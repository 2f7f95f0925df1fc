import { run } from '../container.js';
import { examineCgroups } from './cgroup.js';
import { examineConfinement } from './confinement.js';
import { type Finding, failed } from './finding.js';
import { examineKernel } from './kernel.js';
import { examineNetwork } from './network.js';
import { examineStorage } from './storage.js';

/**
 * Tries every mechanism that a container may use, for real, and leaves nothing behind; a whole container at last.
 *
 * @param home - where state is kept
 * @returns what was found, by area
 */
export async function examine(home: string): Promise<Finding[]> {
  return [
    ...examineKernel(),
    ...(await examineCgroups()),
    ...examineStorage(home),
    ...examineNetwork(),
    ...(await examineConfinement()),
    await container(),
  ];
}

async function container(): Promise<Finding> {
  const [area, name] = ['container', 'of this machine’s own root'];
  try {
    const box = await run({ root: '/', command: ['/bin/sh', '-c', ':'], stdio: 'ignore' });
    const { code } = await box.exited;
    if (code !== 0) throw new Error(`its shell ended with ${code}`);
    return { area, name, state: 'yes', detail: `it ran after ${box.startedInMs.toFixed(0)} ms` };
  } catch (error) {
    return failed(area, name, error, 'see what is missing above');
  }
}
