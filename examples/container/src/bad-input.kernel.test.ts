// Bad input for every option and argument of every command, found in the commands' own definitions: one clear line, exit code 125, and
// nothing is left. What a command is typed with otherwise stands here; a command, or an option, that is new has to be told apart.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command, Option } from 'commander';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { load } from './commands.js';
import { command } from './testing/command.js';
import { lacking } from './testing/lacking.js';

/** What each command is typed with, so that an option alone is what can be wrong. `up` runs, `over` does not, `mine` is an image. */
const words: Record<string, readonly string[]> = {
  create: ['/', 'true'],
  start: ['over'],
  run: ['--rm', '/', 'true'],
  exec: ['up', 'true'],
  // To one that runs it would wait.
  attach: ['over'],
  logs: ['over'],
  stop: ['over'],
  restart: ['over'],
  wait: ['over'],
  rm: ['over'],
  rename: ['over', 'other'],
  top: ['up'],
  inspect: ['over'],
  events: ['--until', '0s'],
  info: [],
  version: [],
  ps: ['-a'],
  kill: ['up'],
  stats: ['--no-stream', 'up'],
  pause: ['over'],
  unpause: ['over'],
  update: ['--pids-limit', '100', 'up'],
  build: ['.'],
  images: [],
  import: ['/no/such'],
  load: [],
  save: ['mine'],
  pull: ['localhost:1/none'],
  push: ['localhost:1/none'],
  tag: ['mine', 'other'],
  rmi: ['none'],
  history: ['mine'],
  'image inspect': ['mine'],
  'image prune': ['--dry-run'],
  commit: ['of-image'],
  cp: ['over:/etc/hostname', '.'],
  export: ['over'],
  diff: ['of-image'],
  'system df': [],
  'system prune': [],
  'network create': ['net'],
  'network ls': [],
  'network inspect': ['none'],
  'network rm': ['none'],
  'network connect': ['none', 'up'],
  'network disconnect': ['none', 'up'],
  'network prune': [],
  port: ['up'],
  doctor: ['--format', 'json'],
  completion: ['bash'],
  __complete: ['--', 'run'],
};

/** Options for which nothing that can be typed is wrong, and why. */
const free: Record<string, string> = {
  'create --entrypoint': 'it is looked for when it is started',
  'create --health-cmd': 'a line for the shell',
  'commit --author': 'a text',
  'commit --message': 'a text',
  'inspect --type': 'accepted, and not looked at',
};

/** Wrong for one or another: nothing, no name, no number, too large a number, no path, lines, no template, no NAME=VALUE, no NAME. */
const wrong = ['', '=', 'a b\n../../c', '-2', '9'.repeat(30), '{{', 'x'.repeat(5000)];

const missing = process.env.ISO_LONG ? lacking('busybox') : ' [needs ISO_LONG=1]';
const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
const here = join(folder, 'here');
mkdirSync(here);
const env = { ...process.env, ISO_ROOT: join(folder, 'state') };

interface Result {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** In a network namespace of its own: what is taken for good makes nothing on the machine. */
async function iso(...args: string[]): Promise<Result> {
  const child = spawn('unshare', ['-n', process.execPath, ...command, ...args], {
    env,
    cwd: here,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const result: Result = { status: null, stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => (result.stdout += chunk));
  child.stderr.on('data', (chunk) => (result.stderr += chunk));
  const timer = setTimeout(() => child.kill('SIGKILL'), 120_000);
  [result.status] = await once(child, 'close');
  clearTimeout(timer);
  return result;
}

/** All commands that do something, by what is typed for them. */
function leaves(root: Command): [path: string, command: Command][] {
  return root.commands.flatMap((one): [string, Command][] =>
    one.commands.length
      ? one.commands.map((inner): [string, Command] => [`${one.name()} ${inner.name()}`, inner])
      : [[one.name(), one]],
  );
}

const nameOf = ({ long, short }: Option) => long ?? (short as string);

/** What there is of containers, images, networks, cgroups, files. */
function left(): string {
  const files = (path: string) => readdirSync(path, { recursive: true, encoding: 'utf8' }).sort();
  const kept = files(join(folder, 'state')).filter((name) => !/events|\/(log|attach)|lock$/.test(name));
  const groups = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => / - cgroup2? /.test(line))
    .flatMap((line) => {
      const { stdout } = spawnSync('sh', ['-c', `ls ${line.split(' ')[4]}/iso 2>/dev/null`], { encoding: 'utf8' });
      return stdout.split('\n').filter((name) => /^(up|over|other)\b/.test(name));
    });
  return [...kept, ...files(here), ...groups].join('\n');
}

let root: Command;
beforeAll(async () => {
  root = await load();
}, 300_000);

describe('what is typed wrong', () => {
  it('is known of each command', async () => {
    expect(Object.keys(words).sort()).toEqual(
      leaves(root)
        .map(([path]) => path)
        .sort(),
    );
  });

  it('is never taken by Node for its own: --env-file', () => {
    // As it is installed, by its first line.
    const bin = fileURLToPath(new URL('../bin/iso.js', import.meta.url));
    for (const words of [['--env-file=/no/such'], ['--env-file', '/no/such']]) {
      const { status, stderr } = spawnSync(bin, ['create', ...words, '/', 'true'], { encoding: 'utf8', env });
      expect([status, stderr]).toEqual([125, expect.stringMatching(/^iso: --env-file \/no\/such: ENOENT[^\n]*\n$/)]);
    }
  });

  it('is an option that there is not, a value that is missing, and one that is too much', async () => {
    const complaints: string[] = [];
    for (const inner of root.commands.flatMap((one) => [one, ...one.commands]))
      inner.configureOutput({ outputError: (text) => complaints.push(text) });
    const refuse = async (args: string[]) => {
      complaints.length = 0;
      const outcome = await root.parseAsync(args, { from: 'user' }).then(
        () => 'taken',
        (error) => error.code as string,
      );
      expect(outcome, args.join(' ')).toMatch(
        /^commander\.(unknownOption|optionMissingArgument|missingArgument|excessArguments|invalidArgument)$/,
      );
      expect(complaints, args.join(' ')).toEqual([expect.stringMatching(/^error: [^\n]+\n$/)]);
    };
    for (const [path, inner] of leaves(root)) {
      const typed = path.split(' ');
      // Those of top are ps's.
      if (path !== 'top') await refuse([...typed, '--no-such-option']);
      for (const option of inner.options) {
        if (option.required) await refuse([...typed, nameOf(option)]);
        // Docker's --flag=false is the only one that takes a word.
        else if (!option.optional) await refuse([...typed, `${nameOf(option)}=moon`]);
      }
      const required = inner.registeredArguments.filter((argument) => argument.required);
      if (required.length) await refuse([...typed, ...required.slice(1).map(() => 'word')]);
      const last = inner.registeredArguments.at(-1);
      if (!last?.variadic) await refuse([...typed, ...inner.registeredArguments.map(() => 'bash'), 'too', 'many']);
    }
  });
});

describe.skipIf(missing)(`what is wrong of a value${missing}`, () => {
  beforeAll(async () => {
    mkdirSync(join(folder, 'root/bin'), { recursive: true });
    spawnSync('sh', ['-c', `cp "$(command -v busybox)" ${folder}/root/bin/true`]);
    for (const args of [
      ['run', '-d', '--name', 'up', '/', 'sleep', '600'],
      ['run', '--name', 'over', '/', 'true'],
      ['import', join(folder, 'root'), 'mine'],
      ['create', '--name', 'of-image', 'mine', '/bin/true'],
      ['network', 'ls'],
    ])
      expect(await iso(...args), args.join(' ')).toMatchObject({ status: 0 });
  }, 600_000);
  afterAll(async () => {
    await iso('rm', '-f', 'up', 'over', 'of-image');
    rmSync(folder, { recursive: true, force: true });
  }, 600_000);

  it('is told in one line, ends with 125, and leaves nothing', async () => {
    const create = new Set(root.commands.find((one) => one.name() === 'create')?.options.map(nameOf));
    const cases = leaves(root).flatMap(([path, inner]) =>
      inner.options
        .filter(({ required, optional }) => required || optional)
        // What run has of create is the very same.
        .filter((option) => path !== 'run' || !create.has(nameOf(option)))
        .map((option) => ({ path, option })),
    );
    const before = left();
    const wrongly: unknown[] = [];
    const taken = new Map<string, boolean>();
    for (const { path, option } of cases) {
      const key = `${path} ${nameOf(option)}`;
      const results = await Promise.all(
        wrong.map((value) => iso(...path.split(' '), `${nameOf(option)}=${value}`, ...(words[path] ?? []))),
      );
      for (const [i, result] of results.entries()) {
        const refused = result.status !== 0;
        taken.set(key, (taken.get(key) ?? true) && !refused);
        // What goes wrong in a build is its own affair, as docker's.
        const code = path === 'build' && result.status === 1 ? 1 : 125;
        const fine = refused
          ? result.status === code && /^iso: [^\n]+\n$/.test(result.stderr) && result.stderr.length < 1100
          : result.stderr === '';
        if (!fine) wrongly.push([key, wrong[i]?.slice(0, 40), { ...result, stdout: result.stdout.slice(0, 100) }]);
      }
      if (left() !== before) {
        await tidy();
        if (left() !== before) wrongly.push([key, left()]);
      }
    }
    expect(wrongly).toEqual([]);
    const all = [...taken].filter(([, always]) => always).map(([key]) => key);
    expect(all.sort()).toEqual(Object.keys(free).sort());
  }, 1_800_000);

  /** What was taken for good made what it says. */
  async function tidy(): Promise<void> {
    const { stdout } = await iso('ps', '-a', '--no-trunc', '--format', '{{.ID}} {{.Names}}');
    const made = stdout.split('\n').filter((line) => line && !/ (up|over|of-image)$/.test(line));
    if (made.length) await iso('rm', '-f', ...made.map((line) => line.split(' ')[0] as string));
    for (const name of readdirSync(here)) rmSync(join(here, name), { recursive: true });
    await iso('network', 'rm', 'net');
    await iso('rmi', 'other');
    // What commit makes without a name.
    await iso('image', 'prune');
  }
});
