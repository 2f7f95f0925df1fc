import { Command } from 'commander';
import { UsageError } from '../options.js';
import { say } from '../say.js';
import { home } from '../state/home.js';
import { findContainer } from '../state/record.js';

/** `iso port`. */
export const port = new Command('port')
  .description('list the published ports of a container')
  .argument('<container>', 'name or id')
  .argument('[port]', 'PORT[/tcp|/udp], only where this one leads')
  .action(async (word: string, only: string | undefined) => {
    const { memberships } = await import('../network/members.js');
    const ports = memberships(findContainer(home(), word)).flatMap(({ lease }) => lease.ports);
    const wanted = only?.includes('/') === false ? `${only}/tcp` : only;
    const lines = ports
      .map((one) => {
        const host = one.host.includes(':') ? `[${one.host}]` : one.host;
        return { inside: `${one.port}/${one.protocol}`, outside: `${host}:${one.hostPort}` };
      })
      .filter(({ inside }) => wanted === undefined || inside === wanted)
      .map(({ inside, outside }) => (wanted === undefined ? `${inside} -> ${outside}` : outside));
    if (wanted !== undefined && lines.length === 0) throw new UsageError(`port ${wanted} of ${word} is not published`);
    if (lines.length) say(process.stdout, `${lines.join('\n')}\n`);
  });
