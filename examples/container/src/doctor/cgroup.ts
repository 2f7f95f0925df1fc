import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { Cgroup, type Controller, detect, findDelegated, hierarchyOf, type Layout } from '@iso/cgroups';
import { type Finding, failed, Missing, trying } from './finding.js';

const AREA = 'cgroups';

/** Each controller, by a limit that is set in a group of its own. */
const limits = {
  cpu: { cpu: { max: { quotaUs: 50_000, periodUs: 100_000 } } },
  cpuset: { cpuset: { cpus: '0' } },
  memory: { memory: { max: 64 * 2 ** 20 } },
  pids: { pids: { max: 16 } },
  io: { io: { weight: 200 } },
  hugetlb: {},
  devices: { devices: [] },
  freezer: {},
} as const;

/**
 * The hierarchies, and each controller by what it is for.
 *
 * @returns what was found
 */
export async function examineCgroups(): Promise<Finding[]> {
  let layout: Layout;
  try {
    layout = detect();
  } catch (error) {
    return [failed(AREA, 'mounted', error, 'root: mount -t cgroup2 cgroup2 /sys/fs/cgroup')];
  }
  const of = trying(AREA);
  const findings = [
    of('layout', () => `${layout.kind}: ${[...new Set(layout.hierarchies.map(({ mount }) => mount))].join(' ')}`),
    of('pressure', () => {
      if (!existsSync('/proc/pressure/cpu'))
        throw new Missing('no /proc/pressure', 'who starts the kernel: psi=1, or a kernel with CONFIG_PSI');
      return readFileSync('/proc/pressure/cpu', 'utf8').split('\n')[0];
    }),
  ];
  for (const controller of Object.keys(limits) as (keyof typeof limits)[])
    findings.push(await limited(layout, controller));
  return [...findings, delegation(layout)];
}

async function limited(layout: Layout, controller: keyof typeof limits): Promise<Finding> {
  const hierarchy = hierarchyOf(layout, controller as Controller);
  if (!hierarchy) {
    const detail = 'no hierarchy that is mounted has it';
    return { area: AREA, name: controller, state: 'no', detail, change: 'who chooses the kernel, and mounts cgroups' };
  }
  try {
    const group = await Cgroup.create(`doctor-${randomBytes(4).toString('hex')}`, {
      controllers: [controller],
      limits: limits[controller],
    });
    await group.remove();
    return { area: AREA, name: controller, state: 'yes', detail: `v${hierarchy.version}, ${hierarchy.mount}` };
  } catch (error) {
    return failed(AREA, controller, error, process.getuid?.() === 0 ? undefined : delegateTo(hierarchy.version));
  }
}

const DELEGATE = 'root: delegate a group to this user; systemd: a unit with Delegate=yes, loginctl enable-linger';

/** Groups of v1 are nobody's to give away: who has one of them still may not move there what v2 has elsewhere. */
const UNIFY =
  'who starts this machine: v1 controllers cannot be delegated, v2 alone can (systemd.unified_cgroup_hierarchy=1); root has them as they are';

function delegateTo(version: 1 | 2): string {
  return version === 2 ? DELEGATE : UNIFY;
}

function delegation(layout: Layout): Finding {
  if (layout.unified === undefined) {
    const detail = 'there is no v2 hierarchy';
    return { area: AREA, name: 'delegated', state: 'no', detail, change: 'who mounts cgroups: cgroup2' };
  }
  const found = findDelegated(layout === undefined ? {} : { layout });
  if (!found)
    return { area: AREA, name: 'delegated', state: 'no', detail: 'no group is this user’s own', change: DELEGATE };
  const { path, controllers } = found;
  return {
    area: AREA,
    name: 'delegated',
    state: 'yes',
    detail: `${path}: ${controllers.join(' ') || 'no controller'}`,
  };
}
