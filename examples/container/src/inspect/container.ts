import type { RunConfig } from '@iso/unionfs';
import type { ContainerOptions } from '../assemble.js';
import { logFile } from '../log/container-log.js';
import { complete, containerOptions, isPath, type RunFlags } from '../recipe.js';
import { STOP_SECONDS } from '../signal.js';
import { type ContainerState, containerDirectory, isLive } from '../state/record.js';
import { parseRestart } from '../supervise/restart.js';

const NEVER = '0001-01-01T00:00:00Z';

/**
 * What is known of a container, in docker's form.
 *
 * @param home - where state is kept
 * @param container - its record
 * @returns an object for JSON
 */
export async function describe(home: string, container: ContainerState) {
  const { id, name, createdAt, image = '', flags, restartCount, status, storageDriver, health } = container;
  const options = await optionsOf(home, container);
  const [path = '/bin/sh', ...args] = options.command ?? [];
  const directory = containerDirectory(home, id);
  return {
    Id: id,
    Created: createdAt,
    Path: path,
    Args: args,
    State: {
      Status: status,
      Running: status === 'running' || status === 'paused' || status === 'restarting',
      Paused: status === 'paused',
      Restarting: status === 'restarting',
      OOMKilled: container.oomKilled ?? false,
      Dead: false,
      Pid: container.pid ?? 0,
      ExitCode: container.exitCode ?? 0,
      Error: container.error ?? '',
      StartedAt: container.startedAt ?? NEVER,
      FinishedAt: container.finishedAt ?? NEVER,
      ...(health ? { Health: health } : {}),
    },
    Image: image,
    ResolvConfPath: isLive(container) ? `${directory}/resolv.conf` : '',
    HostsPath: isLive(container) ? `${directory}/hosts` : '',
    LogPath: flags.logDriver === 'none' ? '' : logFile(directory),
    Name: `/${name}`,
    RestartCount: restartCount,
    Driver: image === '' ? 'directory' : (storageDriver ?? ''),
    CgroupPath: container.cgroup ?? '',
    HostConfig: hostConfig(container),
    Mounts: (options.volumes ?? []).map(({ source, target, readonly, propagation = 'private' }) => ({
      Type: 'bind',
      Source: source,
      Destination: target,
      Mode: readonly ? 'ro' : '',
      RW: !readonly,
      Propagation: `r${propagation}`,
    })),
    Config: config(container, options),
    NetworkSettings: await networkSettings(container),
  };
}

/** What of it its image says is known as long as there is that image. */
async function optionsOf(home: string, { root, command, flags, image }: ContainerState): Promise<ContainerOptions> {
  const options = containerOptions(root, command, flags);
  if (image === undefined) return complete(options, flags, undefined);
  const { ImageError } = await import('@iso/unionfs');
  const { openLayout } = await import('../image/images.js');
  try {
    const layout = await openLayout(home);
    const config: RunConfig = (await layout.image(image)).config.config ?? {};
    return complete(options, flags, config);
  } catch (error) {
    if (!ImageError.is(error)) throw error;
    return options;
  }
}

function hostConfig({ flags, autoRemove }: ContainerState) {
  const { name, most } = parseRestart(flags.restart ?? 'no');
  const logOptions = (flags.logOpt ?? []).map((text) => text.split(/=(.*)/s).slice(0, 2));
  return {
    Binds: flags.volume ?? null,
    LogConfig: {
      Type: flags.logDriver ?? 'json-file',
      Config: Object.fromEntries(logOptions) as Record<string, string>,
    },
    NetworkMode: flags.network?.[0] ?? 'none',
    PortBindings: flags.publish ?? [],
    RestartPolicy: { Name: name, MaximumRetryCount: most },
    AutoRemove: autoRemove,
    ReadonlyRootfs: flags.readOnly ?? false,
    Init: flags.init ?? false,
    UsernsMode: flags.userns ?? '',
    SecurityOpt: flags.securityOpt ?? null,
    Tmpfs: Object.fromEntries(
      (flags.tmpfs ?? []).map((text) => [text.split(':')[0], text.split(/:(.*)/s)[1] ?? '']),
    ) as Record<string, string>,
    CgroupParent: flags.cgroupParent ?? '',
    Devices: (flags.device ?? []).map(({ source, target = source, access = 'rwm' }) => ({
      PathOnHost: source,
      PathInContainer: target,
      CgroupPermissions: access,
    })),
    ...resources(flags),
  };
}

function resources(flags: RunFlags) {
  return {
    Memory: flags.memory ?? 0,
    MemorySwap: flags.memorySwap ?? 0,
    MemoryReservation: flags.memoryReservation ?? 0,
    NanoCpus: Math.round((flags.cpus ?? 0) * 1e9),
    CpuShares: flags.cpuShares ?? 0,
    CpusetCpus: flags.cpusetCpus ?? '',
    CpusetMems: flags.cpusetMems ?? '',
    PidsLimit: flags.pidsLimit ?? null,
    BlkioWeight: flags.blkioWeight ?? 0,
    OomKillDisable: flags.oomKillDisable ?? false,
  };
}

function config({ id, root, command, flags, labels, healthcheck }: ContainerState, options: ContainerOptions) {
  const { Shell, ...Healthcheck } = healthcheck ?? {};
  return {
    Hostname: flags.hostname ?? flags.name ?? id.slice(0, 12),
    User: options.user ?? '',
    AttachStdin: (flags.interactive ?? false) && !flags.detach,
    AttachStdout: !flags.detach,
    AttachStderr: !flags.detach,
    Tty: flags.tty ?? false,
    OpenStdin: flags.interactive ?? false,
    StdinOnce: (flags.interactive ?? false) && !flags.detach,
    Env: options.env ?? [],
    Cmd: command.length ? command : isPath(root) ? ['/bin/sh'] : (options.command ?? []),
    Image: root,
    WorkingDir: options.cwd ?? '',
    Entrypoint: flags.entrypoint === undefined ? null : [flags.entrypoint],
    Labels: labels,
    StopSignal: flags.stopSignal ?? 'SIGTERM',
    StopTimeout: flags.stopTimeout ?? STOP_SECONDS,
    ...(healthcheck ? { Healthcheck } : {}),
    ...(Shell ? { Shell } : {}),
  };
}

/** Networks are looked at for those that are in some. */
async function networkSettings(container: ContainerState) {
  const names = container.flags.network ?? [];
  const named =
    names.length > 0 && !names.some((name) => name === 'none' || name === 'host' || name.startsWith('container:'));
  const members = isLive(container) && named ? (await import('../network/members.js')).memberships(container) : [];
  const networks = members.map(({ network, gateway = '', lease }) => [
    network,
    {
      IPAddress: lease.ip ?? '',
      GlobalIPv6Address: lease.ip6 ?? '',
      MacAddress: lease.mac,
      Gateway: gateway,
      DNSNames: lease.names,
      Aliases: container.flags.networkAlias ?? [],
    },
  ]);
  const ports: Record<string, { HostIp: string; HostPort: string }[]> = {};
  for (const { port, protocol, host, hostPort } of members.flatMap(({ lease }) => lease.ports))
    (ports[`${port}/${protocol}`] ??= []).push({ HostIp: host, HostPort: String(hostPort) });
  const first = members[0];
  return {
    Ports: ports,
    IPAddress: first?.lease.ip ?? '',
    Gateway: first?.gateway ?? '',
    MacAddress: first?.lease.mac ?? '',
    Networks: Object.fromEntries(networks) as Record<string, unknown>,
  };
}
