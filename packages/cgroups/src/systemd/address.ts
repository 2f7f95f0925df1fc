import { existsSync } from 'node:fs';
import { UnsupportedError } from '@iso/sys';

/** Whose systemd: the machine's, or this user's own. */
export type Manager = 'system' | 'user';

/** A socket that a manager listens at. */
export interface Address {
  path: string;
  /** systemd's own: no bus between, which has neither names nor matches. */
  direct: boolean;
}

/**
 * Where to reach a manager: on the bus, or without one at its own socket, which is root's, or the user's.
 *
 * @param manager - which
 * @param env - variables that name the bus
 * @returns sockets that are there, the best first
 * @throws UnsupportedError where there is none
 */
export function addressesOf(manager: Manager, env: NodeJS.ProcessEnv = process.env): Address[] {
  const runtime = env.XDG_RUNTIME_DIR;
  const named = manager === 'system' ? env.DBUS_SYSTEM_BUS_ADDRESS : env.DBUS_SESSION_BUS_ADDRESS;
  const found = [
    ...(named ? parseAddresses(named) : []),
    ...(manager === 'system' ? ['/run/dbus/system_bus_socket'] : runtime ? [`${runtime}/bus`] : []),
  ].map((path) => ({ path, direct: false }));
  const own = manager === 'system' ? '/run/systemd/private' : runtime && `${runtime}/systemd/private`;
  if (own) found.push({ path: own, direct: true });
  const there = found.filter(({ path }) => path.startsWith('\0') || existsSync(path));
  if (there.length === 0) {
    const where = found.map(({ path }) => path).join(', ') || 'XDG_RUNTIME_DIR is not set';
    throw new UnsupportedError('systemd', `no ${manager} manager listens: ${where}`);
  }
  return there;
}

/**
 * Unix sockets of a list of D-Bus addresses, as the specification writes them; other transports are left out.
 *
 * @param text - `unix:path=/run/user/1000/bus;unix:abstract=/tmp/x,guid=…`
 * @returns paths; those of the abstract namespace begin with a NUL
 */
export function parseAddresses(text: string): string[] {
  return text.split(';').flatMap((address) => {
    if (!address.startsWith('unix:')) return [];
    const pairs = address
      .slice('unix:'.length)
      .split(',')
      .map((pair) => /^(\w+)=(.*)$/.exec(pair)?.slice(1) ?? []);
    const value = (key: string) => pairs.find(([name]) => name === key)?.[1]?.replace(/%([0-9a-f]{2})/gi, unescaped);
    const [path, abstract] = [value('path'), value('abstract')];
    return path ? [path] : abstract ? [`\0${abstract}`] : [];
  });
}

function unescaped(_: string, hex: string): string {
  return String.fromCharCode(Number.parseInt(hex, 16));
}
