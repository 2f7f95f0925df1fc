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
    const all = ((await complete(root, [''], names)) ?? []).map(({ word }) => word);
    expect(all).toEqual(expect.arrayContaining(['run', 'exec', 'network', 'doctor', 'completion', 'help']));
    expect(all).not.toContain('__complete');
    for (const path of root.commands.flatMap((one) => [one, ...one.commands].map((inner) => [one, inner] as const))) {
      const [one, inner] = path;
      const words = one === inner ? [one.name()] : [one.name(), inner.name()];
      const shown = ((await complete(root, [...words, '--'], names)) ?? []).map(({ word }) => word);
      const help = inner.helpInformation();
      for (const word of shown) expect(help, words.join(' ')).toContain(word);
      for (const [, word] of help.matchAll(/^ +(?:-\w, )?(--[\w-]+)/gm)) expect(shown, words.join(' ')).toContain(word);
    }
  });

  it('knows the values of options that have some, and leaves files to the shell', async () => {
    const names = async (kind: string) => [`a-${kind}`];
    const of = async (line: string) => (await complete(await load(), line.split(' '), names))?.map(({ word }) => word);
    expect(await of('run --restart un')).toEqual(['unless-stopped']);
    expect(await of('run --network ')).toEqual(
      expect.arrayContaining(['none', 'host', 'a-network', 'container:a-container']),
    );
    expect(await of('run --ipc s')).toEqual(['shareable']);
    expect(await of('run --pid ')).toEqual(['host', 'container:a-container']);
    expect(await of('run --cap-add NET_A')).toEqual(['NET_ADMIN']);
    expect(await of('run --cap-drop=A')).toEqual([
      '--cap-drop=ALL',
      '--cap-drop=AUDIT_WRITE',
      '--cap-drop=AUDIT_CONTROL',
      '--cap-drop=AUDIT_READ',
    ]);
    expect(await of('run --security-opt no')).toEqual(['no-new-privileges', 'no-new-privileges=false']);
    expect(await of('kill -s US')).toEqual(['USR1', 'USR2']);
    expect(await of('ps --filter health=')).toEqual([
      'health=starting',
      'health=healthy',
      'health=unhealthy',
      'health=none',
    ]);
    expect(await of('ps -f name=')).toEqual(['name=a-container']);
    expect(await of('events --filter ty')).toEqual(['type=container']);
    expect(await of('completion ')).toEqual(['bash', 'zsh', 'fish']);
    expect(await of('run --restart nothing')).toEqual([]);
    expect(await of('run --env-file ')).toBeUndefined();
    expect(await of('run ./')).toBeUndefined();
    expect(await of('exec box ')).toBeUndefined();
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
    expect(bash('iso run --restart unl')).toEqual(['unless-stopped']);
    expect(bash('iso run --pid=container:b')).toEqual(['box']);
    // Values, and what is the container's own, only the shell knows.
    expect(bash('iso exec box --')).toEqual([]);
  });

  const [zsh, fish] = ['zsh', 'fish'].map(without);

  it.skipIf(fish)(`is what fish offers${fish}`, () => {
    writeFileSync(join(folder, 'iso.fish'), iso('completion', 'fish').stdout);
    const offered = (line: string) => {
      const script = `source ${folder}/iso.fish; complete -C ${JSON.stringify(line)}`;
      const { stdout, stderr } = spawnSync('fish', ['--no-config', '-c', script], {
        encoding: 'utf8',
        env,
        cwd: folder,
      });
      expect(stderr).toBe('');
      return stdout.split('\n').filter(Boolean);
    };
    expect(offered('iso ru')).toEqual([expect.stringMatching(/^run\t.*container/)]);
    expect(offered('iso run --stop-').map((line) => line.split('\t')[0])).toEqual(['--stop-signal', '--stop-timeout']);
    expect(offered('iso run --pull ')).toEqual(['always', 'missing', 'never']);
    expect(offered('iso run --env-file iso.')).toEqual(['iso.fish']);
    expect(offered('iso run --restart unl')).toEqual(['unless-stopped']);
    expect(offered('iso run --restart iso.')).toEqual([]);
    expect(offered('iso kill -s iso.')).toEqual([]);
    expect(offered('iso completion f')).toEqual(['fish']);
  });

  it.skipIf(zsh)(`is what zsh puts there${zsh}`, { timeout: 60_000 }, () => {
    writeFileSync(join(folder, '_iso'), iso('completion', 'zsh').stdout);
    // A shell at a terminal, and one that types.
    const script = `zmodload zsh/zpty; zpty typed env TERM=dumb zsh -f
      zpty -w typed 'PS1=; setopt no_prompt_cr; autoload -Uz compinit; compinit -u -D; source ${folder}/_iso; echo re""ady'
      zpty -r typed text '*ready*'
      zpty -w -n typed "$1"$'\\t'; zpty -r typed text "*$2*" && print found; zpty -d typed`;
    for (const [line, becomes] of [
      ['iso ru', 'iso run '],
      ['iso run --stop-t', 'iso run --stop-timeout '],
      ['iso run --pull al', 'iso run --pull always '],
      ['iso image in', 'iso image inspect '],
      ['iso run --restart unl', 'iso run --restart unless-stopped '],
    ]) {
      const words = ['-fc', script, 'zsh', line as string, becomes as string];
      const { stdout, stderr } = spawnSync('zsh', words, { encoding: 'utf8', env, timeout: 30_000 });
      expect([stdout, stderr], line).toEqual(['found\n', '']);
    }
  });
});

/** The end of the name of a test that needs a shell. */
function without(shell: string): string {
  return spawnSync(shell, ['-c', 'true']).error ? ` [needs ${shell}]` : '';
}
