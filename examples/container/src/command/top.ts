import { spawnSync } from 'node:child_process';
import { readdirSync, readlinkSync } from 'node:fs';
import { Command } from 'commander';
import { UsageError } from '../options.js';
import { say } from '../say.js';
import { home } from '../state/home.js';
import { findContainer } from '../state/record.js';
import { table } from '../table.js';

/** `iso top`. */
export const top = new Command('top')
  .description('list the processes of a container')
  .argument('<container>', 'name or id')
  .argument('[options...]', 'of ps(1), default -ef')
  .passThroughOptions()
  .allowUnknownOption()
  .action((word: string, options: string[]) => {
    const { pid } = findContainer(home(), word);
    const inside = new Set(processes(pid));
    // As docker: ps knows all columns, and which of its lines are whose we know.
    const { status, stdout, stderr, error } = spawnSync('ps', options.length ? options : ['-ef'], { encoding: 'utf8' });
    if (error) throw new UsageError(`ps cannot be run: ${error.message}`);
    if (status !== 0) throw new UsageError(`ps: ${stderr.trim() || `it ended with ${status}`}`);
    const [head = '', ...lines] = stdout.split('\n').filter((line) => line !== '');
    const titles = head.trim().split(/\s+/);
    const column = titles.indexOf('PID');
    if (column < 0) throw new UsageError('ps prints no column PID: the container’s lines cannot be told');
    const cells = (line: string) => {
      const words = line.trim().split(/\s+/);
      return [...words.slice(0, titles.length - 1), words.slice(titles.length - 1).join(' ')];
    };
    const rows = lines.map(cells).filter((row) => inside.has(Number(row[column])));
    say(process.stdout, `${table([titles, ...rows]).join('\n')}\n`);
  });

/** Those of a pid namespace. */
function processes(first: number): number[] {
  const namespace = (pid: string | number) => {
    try {
      return readlinkSync(`/proc/${pid}/ns/pid`);
    } catch {
      return undefined;
    }
  };
  const own = namespace(first);
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && own !== undefined && namespace(name) === own)
    .map(Number);
}
