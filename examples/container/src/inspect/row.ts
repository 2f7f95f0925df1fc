import { shortName } from '../image/short-name.js';
import { type ContainerState, isLive } from '../state/record.js';
import { since } from './ago.js';

/** What `ps` tells of a container, by docker's names. */
export interface Row {
  ID: string;
  Image: string;
  Command: string;
  CreatedAt: string;
  RunningFor: string;
  Ports: string;
  State: string;
  Status: string;
  Names: string;
  Labels: string;
  Mounts: string;
  Networks: string;
}

const SHORT_ID = 12;
const SHORT_COMMAND = 19;

/**
 * Describes a container.
 *
 * @param container - its record
 * @param short - ids and commands cut
 */
export async function describe(container: ContainerState, short: boolean): Promise<Row> {
  const { id, name, root, command, createdAt, status, labels, flags } = container;
  const own = [flags.entrypoint, ...command].filter((word) => word);
  const line = (container.line ?? (own.length ? own : ['/bin/sh'])).join(' ');
  const cut = short && line.length > SHORT_COMMAND + 1 ? `${line.slice(0, SHORT_COMMAND)}…` : line;
  return {
    ID: short ? id.slice(0, SHORT_ID) : id,
    Image: shortName(root),
    Command: JSON.stringify(cut),
    CreatedAt: createdAt,
    RunningFor: `${since(createdAt)} ago`,
    Ports: await ports(container),
    State: status,
    Status: statusText(container),
    Names: name,
    Labels: Object.entries(labels)
      .map(([key, value]) => `${key}=${value}`)
      .join(','),
    Mounts: (flags.volume ?? []).map((volume) => volume.split(':')[0]).join(','),
    Networks: (flags.network ?? ['none']).join(','),
  };
}

/** As docker says it: `Up 3 minutes (healthy)`, `Up 3 minutes (Paused)`, `Exited (1) 2 days ago`. */
function statusText({ status, startedAt, finishedAt, exitCode = 0, health }: ContainerState): string {
  const up = startedAt === undefined ? '' : since(startedAt);
  const ago = finishedAt === undefined ? '' : ` ${since(finishedAt)} ago`;
  const well = health && ` (${health.Status === 'starting' ? 'health: starting' : health.Status})`;
  if (status === 'running') return `Up ${up}${well ?? ''}`;
  if (status === 'paused') return `Up ${up} (Paused)`;
  if (status === 'exited') return `Exited (${exitCode})${ago}`;
  if (status === 'restarting') return `Restarting (${exitCode})${ago}`;
  return status === 'starting' ? 'Starting' : 'Created';
}

/** Networks are looked at for those that have published something. */
async function ports(container: ContainerState): Promise<string> {
  const { publish, publishAll } = container.flags;
  if (!isLive(container) || (!publish?.length && !publishAll)) return '';
  const { memberships } = await import('../network/members.js');
  return memberships(container)
    .flatMap(({ lease }) => lease.ports)
    .map(
      ({ host, hostPort, port, protocol }) =>
        `${host.includes(':') ? `[${host}]` : host}:${hostPort}->${port}/${protocol}`,
    )
    .join(', ');
}
