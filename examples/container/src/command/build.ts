import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { KernelError } from '@iso/sys';
import { type BuildContext, buildImage, formatPlatform, hostPlatform, ImageError, parsePlatform } from '@iso/unionfs';
import { Command, Option } from 'commander';
import { readDockerfile } from '../build/dockerfile.js';
import { containerExecutor } from '../build/executor.js';
import { plainProgress } from '../build/progress.js';
import { findImage, openLayout, openSnapshots, wholeName } from '../image/images.js';
import { pull } from '../image/pull.js';
import { shortName } from '../image/short-name.js';
import { UsageError } from '../options.js';
import { complain, say } from '../say.js';
import { home } from '../state/home.js';

interface BuildFlags {
  tag?: string[];
  file?: string;
  buildArg?: string[];
  label?: string[];
  target?: string;
  cache: boolean;
  pull?: boolean;
  platform?: string;
  network: 'none' | 'host';
  quiet?: boolean;
  iidfile?: string;
}

const collect = (value: string, all: string[] = []) => [...all, value];

/** `iso build`. */
export const build = new Command('build')
  .description('build an image from a Dockerfile')
  .argument('<path>', 'directory of the files that it may take, or - for a Dockerfile on standard input and none')
  .option('-t, --tag <name>', 'REPOSITORY[:TAG], may be given several times', collect)
  .option('-f, --file <file>', 'the Dockerfile, default PATH/Dockerfile; - for standard input')
  .option('--build-arg <variable>', 'NAME=VALUE, or NAME from this environment', collect)
  .option('--label <label>', 'NAME=VALUE', collect)
  .option('--target <stage>', 'stage to end with')
  .option('--no-cache', 'do every step')
  .option('--pull', 'fetch the images that it begins with, also where they are there')
  .option('--platform <platform>', 'OS/ARCHITECTURE[/VARIANT]')
  .addOption(new Option('--network <mode>', 'of commands').choices(['none', 'host']).default('none'))
  .option('-q, --quiet', 'print nothing but the id of the image')
  .option('--iidfile <file>', 'write the id there')
  .action(async (path: string, flags: BuildFlags) => {
    try {
      await buildFrom(path, flags);
    } catch (error) {
      complain(messageOf(error));
      process.exitCode = 1;
    }
  });

/** The kernel's words for a source that is not there say less than its name. */
function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { message, cause } = error;
  if (!KernelError.is(cause, 'ENOENT') || cause.syscall !== 'openat2' || cause.path === undefined) return message;
  return message.replace(cause.message, () => `${cause.path} is not there${cause.hint ? `; ${cause.hint}` : ''}`);
}

async function buildFrom(path: string, flags: BuildFlags): Promise<void> {
  const names = (flags.tag ?? []).map(wholeName);
  const buildArgs = pairs('--build-arg', flags.buildArg ?? [], process.env);
  const labels = pairs('--label', flags.label ?? [], {});
  const platform = flags.platform === undefined ? undefined : formatPlatform(parsePlatform(flags.platform));
  const { text, file, context } = readSources(path, flags.file);
  const { stages, unused } = readDockerfile(text, { file, buildArgs, platformArgs: platformArgs(platform) });
  for (const name of unused) complain(`warning: no ARG asks for --build-arg ${name}`);
  const layout = await openLayout(home());
  await using store = await openSnapshots(home());
  // What builds left whose processes were killed.
  await store.cleanup();
  using _kept = await layout.content.hold();
  const told = flags.quiet ? () => {} : (line: string) => say(process.stderr, line);
  const proxies = Object.entries(buildArgs).filter(([name]) => /^(https?|ftp|no|all)_proxy$/i.test(name));
  using interrupt = interruptible();
  const image = await buildImage(stages, {
    layout,
    store,
    execute: containerExecutor({ network: flags.network, env: proxies.map(([name, value]) => `${name}=${value}`) }),
    cache: join(home(), 'build'),
    noCache: !flags.cache,
    signal: interrupt.signal,
    labels,
    onProgress: plainProgress(told),
    image: async (name, wanted) => {
      const of = wanted === undefined ? {} : { platform: parsePlatform(wanted) };
      if (!flags.pull) {
        try {
          const { image: found, name: by } = await findImage(layout, name);
          return by === undefined ? found : await layout.image(by, of);
        } catch (error) {
          if (!ImageError.is(error, 'notFound', 'noPlatform')) throw error;
        }
      }
      return await layout.image((await pull(layout, name, of)).descriptor, of);
    },
    ...(context ? { context } : {}),
    ...(platform === undefined ? {} : { platform }),
    ...(flags.target === undefined ? {} : { target: flags.target }),
  });
  if (names.length === 0) await layout.add(image);
  for (const name of names) await layout.tag(name, image);
  told(`\nwriting image ${image.id}\n${names.map((name) => `naming to ${shortName(name)}\n`).join('')}`);
  if (flags.iidfile !== undefined) writeFileSync(flags.iidfile, image.id);
  if (flags.quiet) say(process.stdout, `${image.id}\n`);
}

function readSources(path: string, chosen: string | undefined): { text: string; file: string; context?: BuildContext } {
  if (path === '-') {
    if (chosen !== undefined) throw new UsageError('standard input is the Dockerfile: --file makes no sense');
    return { text: readFileSync(0, 'utf8'), file: 'Dockerfile' };
  }
  if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) throw new UsageError(`${path} is no directory`);
  const file = chosen ?? join(path, 'Dockerfile');
  if (file !== '-' && !existsSync(file)) throw new UsageError(`there is no ${file}`);
  const ignore = [`${file}.dockerignore`, join(path, '.dockerignore')].find((each) => existsSync(each));
  const context = {
    directory: path,
    ...(ignore === undefined ? {} : { ignore: readFileSync(ignore, 'utf8').split(/\r?\n/) }),
  };
  return file === '-'
    ? { text: readFileSync(0, 'utf8'), file: 'Dockerfile', context }
    : { text: readFileSync(file, 'utf8'), file: chosen ?? 'Dockerfile', context };
}

function pairs(option: string, words: readonly string[], env: NodeJS.ProcessEnv): Record<string, string> {
  const all: Record<string, string> = {};
  for (const word of words) {
    const [name = '', given] = word.split(/=(.*)/s);
    if (name === '') throw new UsageError(`not NAME=VALUE: ${option} ${word}`);
    const value = given ?? (option === '--label' ? '' : env[name]);
    if (value !== undefined) all[name] = value;
  }
  return all;
}

/** Variables that tell a Dockerfile what it is built for, and on. */
function platformArgs(target: string | undefined): Record<string, string> {
  const args: Record<string, string> = {};
  const host = hostPlatform();
  for (const [prefix, platform] of [
    ['TARGET', target === undefined ? host : parsePlatform(target)],
    ['BUILD', host],
  ] as const) {
    args[`${prefix}PLATFORM`] = formatPlatform(platform);
    args[`${prefix}OS`] = platform.os;
    args[`${prefix}ARCH`] = platform.architecture;
    args[`${prefix}VARIANT`] = platform.variant ?? '';
  }
  return args;
}

/** Ctrl-C ends the command that runs, and what was half done goes. */
function interruptible(): Disposable & { signal: AbortSignal } {
  const controller = new AbortController();
  const abort = (name: NodeJS.Signals) => controller.abort(new Error(`given up: ${name}`));
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, abort);
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.off(name, abort);
    },
  };
}
