import { release } from 'node:os';
import { Command } from 'commander';
import { render } from '../inspect/template.js';
import { say } from '../say.js';
import { isoVersion } from '../version.js';

/** `iso version`. */
export const version = new Command('version')
  .description('print versions')
  .option('-f, --format <format>', 'json, or a template, such as {{.Client.Version}}')
  .action(({ format }: { format?: string }) => {
    const found = {
      Client: {
        Version: isoVersion,
        Node: process.versions.node,
        Os: process.platform,
        Arch: process.arch,
        KernelVersion: release(),
      },
    };
    if (format === 'json') return say(process.stdout, `${JSON.stringify(found)}\n`);
    if (format !== undefined) return say(process.stdout, `${render(format, found)}\n`);
    const { Version, Node, Os, Arch, KernelVersion } = found.Client;
    say(
      process.stdout,
      `Client:\n Version: ${Version}\n Node: ${Node}\n OS/Arch: ${Os}/${Arch}\n Kernel: ${KernelVersion}\n`,
    );
  });
