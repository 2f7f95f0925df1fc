// Runs vitest in some place, and holds what it skipped against the committed list.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { command, say } from './stage.js';

const committed = new URL('skips.json', import.meta.url);

/**
 * The command line of vitest.
 *
 * @param {string} report file that gets its report
 * @param {{ projects: string[], files?: string[], timeoutMs?: number, together?: boolean }} what projects and, where not all, files of
 * them; `together`: in one process, which loads what they share once
 */
export function vitestArguments(report, { projects, files = [], timeoutMs, together = false }) {
  return [
    'node_modules/vitest/vitest.mjs',
    'run',
    ...projects.flatMap((project) => ['--project', project]),
    ...(timeoutMs === undefined ? [] : ['--testTimeout', String(timeoutMs), '--hookTimeout', String(timeoutMs)]),
    ...(together ? ['--no-isolate'] : []),
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
    ...files,
  ];
}

/** The files of all kernel tests. */
export function kernelTests() {
  return ['packages', 'examples'].flatMap((folder) =>
    readdirSync(folder, { recursive: true })
      .filter((name) => name.endsWith('.kernel.test.ts') && !name.includes('node_modules'))
      .map((name) => join(folder, name)),
  );
}

/** For tests that start the commands: from their sources it would take seconds each time. */
export function builtCommand(root) {
  return {
    ISO_CLI: join(root, 'examples/container/dist/cli.js'),
    ISO_OCI: join(root, 'examples/oci-runtime/bin/iso-oci.js'),
  };
}

/**
 * A stage that runs vitest here.
 *
 * @param {string} place its name in the list of skips
 * @param {Parameters<typeof vitestArguments>[1]} what
 * @param {{ before?: string[], node?: string, cwd?: string, env?: Record<string, string> }} how a command that runs Node, which Node, where
 */
export function vitest(place, what, { before = [], node = process.execPath, cwd = process.cwd(), env = {} } = {}) {
  return async () => {
    const folder = mkdtempSync(join(tmpdir(), 'iso-report-'));
    try {
      // The place may belong to somebody else.
      const report = cwd === process.cwd() ? join(folder, 'report.json') : join(cwd, 'report.json');
      const passed = await command([...before, node, ...vitestArguments(report, what)], {
        cwd,
        env: { ...process.env, ...env },
      });
      return judgeSkips(place, report, cwd) && passed;
    } finally {
      rmSync(folder, { recursive: true });
    }
  };
}

/**
 * Prints what was skipped. In CI the list must be the committed one; with `npm test -- --write-skips` it becomes so.
 *
 * @returns {boolean} whether it is as it should be
 */
export function judgeSkips(place, report, root = process.cwd()) {
  if (!existsSync(report)) return false;
  const skipped = JSON.parse(readFileSync(report, 'utf8'))
    .testResults.flatMap(({ name, assertionResults }) =>
      assertionResults
        .filter(({ status }) => status !== 'passed' && status !== 'failed')
        .map(({ fullName }) => `${relative(root, name)}: ${fullName}`),
    )
    .sort();
  for (const line of skipped) say(`skipped  ${line}\n`);
  const all = JSON.parse(readFileSync(committed, 'utf8'));
  if (process.argv.includes('--write-skips')) {
    writeFileSync(committed, `${JSON.stringify({ ...all, [place]: skipped }, null, 2)}\n`);
    return true;
  }
  if (all[place] === null) {
    say(`not compared: test/skips.json has no list for "${place}" yet\n`);
    return true;
  }
  const expected = new Set(all[place] ?? []);
  const differences = [
    ...skipped.filter((line) => !expected.has(line)).map((line) => `+ ${line}`),
    ...[...expected].filter((line) => !skipped.includes(line)).map((line) => `- ${line}`),
  ];
  if (differences.length === 0) return true;
  say(`other skips than test/skips.json has for "${place}":\n${differences.join('\n')}\n`);
  return process.env.CI !== 'true';
}
