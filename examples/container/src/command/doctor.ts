import { Command, Option } from 'commander';
import type { Finding } from '../doctor/finding.js';
import { say } from '../say.js';
import { home } from '../state/home.js';

/** `iso doctor`. */
export const doctor = new Command('doctor')
  .description(
    'try what this machine allows: every mechanism, driver and kind of network; for each no, why and who can change it',
  )
  .addOption(new Option('--format <format>', 'how').choices(['table', 'json']).default('table'))
  .action(async ({ format }: { format: 'table' | 'json' }) => {
    const { examine } = await import('../doctor/doctor.js');
    const findings = await examine(home());
    const lines = format === 'json' ? findings.map((finding) => JSON.stringify(finding)) : report(findings);
    say(process.stdout, `${lines.join('\n')}\n`);
    // The last one is a whole container.
    if (findings.at(-1)?.state !== 'yes') process.exitCode = 1;
  });

const signs = { yes: 'yes', no: 'no', unknown: '?' } as const;

function report(findings: readonly Finding[]): string[] {
  const width = Math.max(...findings.map(({ name }) => name.length));
  return findings.flatMap(({ area, name, state, detail, change }, i) => [
    ...(area === findings[i - 1]?.area ? [] : [...(i ? [''] : []), area]),
    `  ${signs[state].padEnd(3)}  ${name.padEnd(width)}  ${detail.replace(/\s*\n\s*/g, ' ')}`.trimEnd(),
    ...(change === undefined ? [] : [`       ${' '.repeat(width)}  up to ${change}`]),
  ]);
}
