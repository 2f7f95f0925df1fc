import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { load } from '../commands.js';
import { command } from '../testing/command.js';
import { complete } from './complete.js';

const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
const env = { ...process.env, ISO_ROOT: join(folder, 'state'), PATH: `${folder}/bin:${process.env.PATH}` };
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const iso = (...args: string[]) => spawnSync(process.execPath, [...command, ...args], { encoding: 'utf8', env });

/** What bash itself puts there for a line. */
function bash(line: string): string[] {
  const words = line.split(/ +/);
  const script = `source ${folder}/completion
    COMP_LINE=$1 COMP_POINT=\${#1} COMP_WORDS=($1) COMP_CWORD=${words.length - 1}; [[ $1 == *' ' ]] && COMP_WORDS+=('')
    $(complete -p iso | sed 's/.*-F \\([^ ]*\\).*/\\1/'); printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr } = spawnSync('bash', ['-c', script, 'bash', line], { encoding: 'utf8', env });
  expect(stderr).toBe('');
  return stdout.split('\n').filter(Boolean);
}

describe('completion', () => {
  beforeAll(() => {
    mkdirSync(join(folder, 'bin'));
    writeFileSync(
      join(folder, 'bin/iso'),
      `#!/bin/sh\nexec ${[process.execPath, ...command].map((word) => `'${word}'`).join(' ')} "$@"\n`,
    );
    chmodSync(join(folder, 'bin/iso'), 0o755);
  });

  it('knows every command and every option that help knows, and no other', async () => {
    const root = await load();
    const names = async () => [];
    const all = (await complete(root, [''], names)).map(({ word }) => word);
    expect(all).toEqual(expect.arrayContaining(['run', 'exec', 'network', 'doctor', 'completion', 'help']));
    expect(all).not.toContain('__complete');
    for (const path of root.commands.flatMap((one) => [one, ...one.commands].map((inner) => [one, inner] as const))) {
      const [one, inner] = path;
      const words = one === inner ? [one.name()] : [one.name(), inner.name()];
      const shown = (await complete(root, [...words, '--'], names)).map(({ word }) => word);
      const help = inner.helpInformation();
      for (const word of shown) expect(help, words.join(' ')).toContain(word);
      for (const [, word] of help.matchAll(/^ +(?:-\w, )?(--[\w-]+)/gm)) expect(shown, words.join(' ')).toContain(word);
    }
  });

  it('is what bash puts there', () => {
    writeFileSync(join(folder, 'completion'), iso('completion', 'bash').stdout);
    expect(iso('create', '--name', 'box', '/', 'true').status).toBe(0);
    expect(bash('iso ru')).toEqual(['run']);
    expect(bash('iso run --stop-')).toEqual(['--stop-signal', '--stop-timeout']);
    expect(bash('iso run --pull ')).toEqual(['always', 'missing', 'never']);
    // Bash has taken the word apart itself.
    expect(bash('iso run --pull=a')).toEqual(['always']);
    expect(bash('iso network cr')).toEqual(['create']);
    expect(bash('iso start -a b')).toEqual(['box']);
    // Values, and what is the container's own, only the shell knows.
    expect(bash('iso exec box --')).toEqual([]);
  });

  it.each(['zsh', 'fish'])('is read by %s without a complaint', (shell) => {
    const { stdout } = iso('completion', shell);
    expect(stdout).toContain('iso __complete');
    if (spawnSync(shell, ['-c', 'true']).error) return;
    expect(spawnSync(shell, ['-n'], { encoding: 'utf8', input: stdout })).toMatchObject({ status: 0, stderr: '' });
  });
});
