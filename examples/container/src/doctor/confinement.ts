import { readFileSync } from 'node:fs';
import { capabilities, capabilitiesOf, dockerCapabilities, namesOf } from '@iso/capabilities';
import { landlockAbi } from '@iso/landlock';
import { run } from '@iso/process';
import { defaultProfile, seccomp } from '@iso/seccomp';
import { type Finding, failed, trying } from './finding.js';

const AREA = 'confinement';

/**
 * What keeps a program in besides namespaces: filters, capabilities, Landlock.
 *
 * @returns what was found
 */
export async function examineConfinement(): Promise<Finding[]> {
  const of = trying(AREA);
  return [
    await tried('seccomp filter', async () => {
      const filter = defaultProfile.filter({ capabilities: dockerCapabilities });
      await run('true', [], { confine: [capabilities({ noNewPrivileges: true }), seccomp(filter)] });
      return `actions: ${readFileSync('/proc/sys/kernel/seccomp/actions_avail', 'utf8').trim()}`;
    }),
    await tried('fewer capabilities', async () => {
      const possible = namesOf(capabilitiesOf('self').bounding);
      const kept = dockerCapabilities.filter((name) => possible.includes(name));
      await run('true', [], { confine: [capabilities({ bounding: kept, noNewPrivileges: true })] });
      return `${kept.length} of docker’s ${dockerCapabilities.length} are there to be given`;
    }),
    of('Landlock', () => `ABI ${landlockAbi()}`),
  ];
}

async function tried(name: string, attempt: () => Promise<string>): Promise<Finding> {
  try {
    return { area: AREA, name, state: 'yes', detail: await attempt() };
  } catch (error) {
    return failed(AREA, name, error);
  }
}
