import { Fd, invalid } from '@iso/sys';
import { ImageError } from '../content/error.js';
import { checkArgument } from '../file/argument.js';
import { writeImage } from '../image/compose.js';
import type { ImageConfig } from '../image/document.js';
import type { Image } from '../image/image.js';
import { hostPlatform, parsePlatform } from '../image/platform.js';
import type { Built } from './built.js';
import { StepCache } from './cache.js';
import type { BuildOptions } from './options.js';
import { ignorePatterns } from './pattern.js';
import type { SourceRoot } from './source.js';
import { StageBuilder } from './stage.js';
import { type BuildStage, checkStep } from './step.js';

/**
 * Builds an image: each step on what the ones before have made. A step that was done before, on the same layers and with the same
 * inputs, is not done again.
 *
 * @param stages - what to do; the last one, or the `target`, becomes the image
 * @param options - see {@link BuildOptions}
 * @returns the image, which has no name yet. Keep the layout's content held until it has one.
 * @throws {@link ImageError} `badStep`, which says where the step was written, with what went wrong as its `cause`; `TypeError` for stages
 * and steps that mean nothing, before anything is done; the signal's reason
 *
 * Needs the privileges of the store's mounts: CAP_SYS_ADMIN.
 *
 * @example
 * ```ts root
 * import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
 * import { buildImage, ImageLayout, openStore } from '@iso/unionfs';
 * const directory = mkdtempSync('/tmp/iso-build-');
 * writeFileSync(`${directory}/hello`, 'hello');
 * {
 *   const layout = await ImageLayout.open(`${directory}/images`, { create: true });
 *   await using store = await openStore({ root: `${directory}/store` });
 *   using _ = await layout.content.hold();
 *   const image = await buildImage(
 *     [{ from: 'scratch', steps: [{ copy: ['hello'], to: '/etc/' }, { env: { LANG: 'C' } }, { cmd: ['/bin/sh'] }] }],
 *     { layout, store, context: { directory, ignore: ['images', 'store'] }, cache: `${directory}/cache` },
 *   );
 *   await layout.tag('example.org/hello:1', image);
 *   if (image.layers.length !== 1) throw new Error(String(image.layers.length));
 * }
 * rmSync(directory, { recursive: true });
 * ```
 */
export async function buildImage(stages: readonly BuildStage[], options: BuildOptions): Promise<Image> {
  checkStages(stages);
  checkArgument('the second argument', options, 'options: { … }');
  checkArgument('layout', options.layout, 'an image layout, as ImageLayout.open() gives');
  checkArgument('store', options.store, 'a store, as openStore() gives');
  const known = new Set(Object.keys(KNOWN));
  for (const key of Object.keys(options)) if (!known.has(key)) throw invalid(`buildImage() has no option "${key}"`);
  const { layout, context, signal, labels = {} } = options;
  signal?.throwIfAborted();
  if (options.epoch !== undefined && !(Number.isSafeInteger(options.epoch) && options.epoch >= 0)) {
    throw invalid(`not a time in seconds: ${options.epoch}`);
  }
  for (const key of ['fetchTimeout', 'fetchLimit'] as const)
    if (options[key] !== undefined) checkArgument(key, options[key], 'a positive integer');
  const target = findTarget(stages, options.target);
  using _ = await layout.content.hold(signal ? { signal } : {});
  using directory = context ? Fd.open(context.directory, { directory: true }) : undefined;
  const root: SourceRoot | undefined = directory && {
    fd: directory.number,
    ...(context?.ignore ? ignorePatterns(context.ignore) : {}),
  };
  const cache = options.cache === undefined ? undefined : new StepCache(options.cache, layout);
  const builder = new StageBuilder(stages, options, root, cache);
  using __ = builder;
  const built = await builder.build(target);
  return await write(built, options, labels);
}

const KNOWN: Record<keyof BuildOptions, true> = {
  layout: true,
  store: true,
  context: true,
  execute: true,
  fetch: true,
  fetchTimeout: true,
  fetchLimit: true,
  image: true,
  target: true,
  cache: true,
  noCache: true,
  platform: true,
  labels: true,
  epoch: true,
  compression: true,
  signal: true,
  onProgress: true,
};

function checkStages(stages: readonly BuildStage[]): void {
  checkArgument('stages', stages, 'a list');
  if (stages.length === 0) throw invalid('a build of no stages');
  for (const [i, stage] of stages.entries()) {
    if (typeof stage.from === 'number' ? !(stage.from >= 0 && stage.from < i) : !stage.from) {
      throw invalid(`stage ${i} begins with nothing that is there: ${JSON.stringify(stage.from)}`);
    }
    if (stage.platform !== undefined) parsePlatform(stage.platform);
    checkArgument(`steps of stage ${i}`, stage.steps, 'a list');
    for (const step of stage.steps) if (typeof step !== 'function') checkStep(step);
  }
}

/** A stage by its name, whatever its case, or by its number. */
function stageNumber(stages: readonly BuildStage[], word: string | number, before: number): number | undefined {
  if (typeof word === 'number') return word >= 0 && word < before ? word : undefined;
  const named = stages.findLastIndex(({ name }, i) => i < before && name?.toLowerCase() === word.toLowerCase());
  return named >= 0 ? named : /^\d+$/.test(word) && Number(word) < before ? Number(word) : undefined;
}

function findTarget(stages: readonly BuildStage[], target: string | number | undefined): number {
  if (target === undefined) return stages.length - 1;
  const found = stageNumber(stages, target, stages.length);
  if (found === undefined) throw new ImageError('badStep', `there is no stage ${JSON.stringify(target)} to build`);
  return found;
}

async function write(built: Built, options: BuildOptions, labels: Readonly<Record<string, string>>): Promise<Image> {
  const { base, stage, made, created } = built;
  const below = base?.config ?? platformOf(options);
  const run = Object.keys(labels).length ? { ...stage.run, Labels: { ...stage.run.Labels, ...labels } } : stage.run;
  const config: ImageConfig = {
    ...below,
    created,
    ...(stage.author === undefined ? {} : { author: stage.author }),
    config: run,
    rootfs: { type: 'layers', diff_ids: [] },
  };
  return await writeImage(options.layout, { base, config, layers: made });
}

function platformOf(options: BuildOptions): ImageConfig {
  const platform = options.platform === undefined ? hostPlatform() : parsePlatform(options.platform);
  return { ...platform, rootfs: { type: 'layers', diff_ids: [] } };
}
