import { invalid } from '@iso/sys';
import { ImageError } from '../content/error.js';
import type { NewLayer } from '../image/compose.js';
import type { HistoryEntry } from '../image/document.js';
import type { Image, ImageLayer } from '../image/image.js';
import { parsePlatform } from '../image/platform.js';
import { type Built, chainOf } from './built.js';
import { StepCache } from './cache.js';
import { commandOf, configure, DEFAULT_PATH, pathOf, variables } from './configure.js';
import { fetchFile } from './fetched.js';
import { LayerMaker } from './layer.js';
import type { BuildEvent, BuildOptions } from './options.js';
import { makeDirectory } from './place.js';
import type { SourceRoot } from './source.js';
import {
  type BuildStage,
  type BuildStep,
  checkStep,
  type RunStep,
  type StepOrigin,
  type StepSource,
  stepText,
} from './step.js';
import { transfer } from './transfer.js';

/** What a step makes, and by which names it is remembered. */
interface Work {
  key: Readonly<Record<string, unknown>>;
  /** Of no layer: there was nothing to do. */
  make(): Promise<NewLayer | undefined>;
}

/** Builds stages, those that are needed, each once. */
export class StageBuilder {
  readonly #stages: readonly BuildStage[];
  readonly #options: BuildOptions;
  readonly #context: SourceRoot | undefined;
  readonly #cache: StepCache | undefined;
  readonly #maker: LayerMaker;
  readonly #built = new Map<number, Promise<Built>>();
  #steps = 0;

  constructor(stages: readonly BuildStage[], options: BuildOptions, context?: SourceRoot, cache?: StepCache) {
    this.#stages = stages;
    this.#options = options;
    this.#context = context;
    this.#cache = cache;
    this.#maker = new LayerMaker(options);
  }

  /** Gives free what was kept from collection. */
  [Symbol.dispose](): void {
    this.#maker[Symbol.dispose]();
  }

  /** All of a stage, and of what it needs. */
  build(number: number): Promise<Built> {
    let built = this.#built.get(number);
    if (!built) {
      built = this.#build(number);
      this.#built.set(number, built);
    }
    return built;
  }

  async #build(number: number): Promise<Built> {
    const stage = this.#stages[number] as BuildStage;
    let built = await this.#tell(number, 0, stage.origin ?? { text: `from ${stage.from}` }, (tell) =>
      this.#begin(number, tell),
    );
    for (const [i, source] of stage.steps.entries()) built = await this.#source(number, i + 1, built, source);
    return built;
  }

  async #source(number: number, index: number, before: Built, source: StepSource): Promise<Built> {
    if (typeof source !== 'function') {
      const origin = { ...source.origin, text: stepText(source) };
      return await this.#tell(number, index, origin, (tell) => this.#step(number, before, source, tell));
    }
    let built = before;
    const made = source(scopeOf(before));
    for (const each of Array.isArray(made) ? (made as StepSource[]) : [made as StepSource]) {
      built = await this.#source(number, index, built, each);
    }
    return built;
  }

  /** Tells of a step, and says of what goes wrong where it was written. */
  async #tell(number: number, index: number, origin: StepOrigin, work: (tell: Tell) => Promise<Built>): Promise<Built> {
    const { signal, onProgress } = this.#options;
    signal?.throwIfAborted();
    const stage = this.#stages[number] as BuildStage;
    const name = this.#stages.length > 1 ? (stage.name ?? String(number)) : '';
    let id = 0;
    let cached = false;
    const tell: Tell = (state, output) => {
      if (state === 'cached') cached = true;
      // What a stage needs is built first, and counted first.
      id ||= ++this.#steps;
      const { text } = origin;
      const event = { id, stage: name, index: index + 1, count: stage.steps.length + 1, text, state };
      onProgress?.(output ? { ...event, output } : event);
    };
    try {
      const built = await work(tell);
      if (id && !cached) tell('done');
      return built;
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      if (ImageError.is(error, 'badStep') && error.subject !== undefined) throw error;
      if (id) tell('failed');
      const { file, line } = origin;
      const subject = file === undefined ? `step ${index} of stage ${name || number}` : `${file}:${line ?? 1}`;
      const [first = ''] = origin.text.split('\n');
      const message = `${subject}: ${first.slice(0, 200)}: ${error instanceof Error ? error.message : String(error)}`;
      throw new ImageError('badStep', message, { subject, cause: error });
    }
  }

  async #begin(number: number, tell: Tell): Promise<Built> {
    const { from, platform } = this.#stages[number] as BuildStage;
    const earlier = this.#earlier(from, number);
    if (earlier !== undefined) {
      const below = await this.build(earlier);
      tell('begun');
      // Variables of the build end with their stage.
      return { ...below, stage: { ...below.stage, args: new Map(), ownCmd: false } };
    }
    tell('begun');
    if (from === 'scratch') return this.#scratch();
    const base = await this.#image(String(from), platform);
    return {
      base,
      made: [],
      layers: base.layers,
      stage: { run: base.config.config ?? {}, author: undefined, args: new Map(), ownCmd: false },
      created: base.config.created ?? this.#now(),
    };
  }

  #scratch(): Built {
    const run = { Env: [`PATH=${DEFAULT_PATH}`] };
    const stage = { run, author: undefined, args: new Map(), ownCmd: false };
    return { base: undefined, made: [], layers: [], stage, created: this.#now() };
  }

  #earlier(word: string | number, number: number): number | undefined {
    if (typeof word === 'number') {
      if (word < number && word >= 0) return word;
      throw invalid(`there is no stage ${word} before this one`);
    }
    const named = this.#stages.findLastIndex(({ name }, i) => i < number && name?.toLowerCase() === word.toLowerCase());
    return named >= 0 ? named : undefined;
  }

  async #image(name: string, platform: string | undefined = this.#options.platform): Promise<Image> {
    const { image, layout } = this.#options;
    if (image) return await image(name, platform);
    return await layout.image(name, platform === undefined ? {} : { platform: parsePlatform(platform) });
  }

  #now(): string {
    const { epoch } = this.#options;
    return (epoch === undefined ? new Date() : new Date(Math.min(Date.now(), epoch * 1000))).toISOString();
  }

  async #step(number: number, built: Built, step: BuildStep, tell: Tell): Promise<Built> {
    const kind = checkStep(step);
    const { run } = built.stage;
    let work: Work | undefined;
    if ('run' in step) work = this.#run(built, step, tell);
    else if ('copy' in step || 'add' in step) return await this.#copy(number, built, step, tell);
    else if ('workdir' in step) {
      const path = pathOf(run, step.workdir);
      if (path !== '/') work = this.#directory(built, path);
    }
    if (!work) {
      if (kind !== 'arg') tell('begun');
      return this.#add(built, step, { created: built.created });
    }
    tell('begun');
    return await this.#once(built, step, [StepCache.key(work.key)], () => (work as Work).make(), tell);
  }

  /** Does a step, unless one of its names is known. */
  async #once(
    built: Built,
    step: BuildStep,
    keys: readonly string[],
    make: () => Promise<NewLayer | undefined>,
    tell: Tell,
  ): Promise<Built> {
    if (!this.#options.noCache) {
      for (const key of keys) {
        const found = await this.#cache?.find(key);
        if (!found) continue;
        for (const other of keys) if (other !== key) await this.#cache?.keep(other, found);
        tell('cached');
        return this.#add(built, step, found);
      }
    }
    const layer = await make();
    const created = layer ? this.#now() : built.created;
    for (const key of keys) await this.#cache?.keep(key, { layer, created });
    return this.#add(built, step, { layer, created });
  }

  #add(built: Built, step: BuildStep, made: { layer?: NewLayer | undefined; created: string }): Built {
    const { layer, created } = made;
    const history: HistoryEntry = { created, created_by: stepText(step), comment: 'iso build' };
    const stage = configure(built.stage, step);
    if (!layer) return { ...built, stage, made: [...built.made, { step: history }] };
    const { descriptor, diffId } = layer;
    return {
      ...built,
      stage,
      // Some later than what is below, whatever a clock says.
      created: created > built.created || !built.layers.length ? created : built.created,
      made: [...built.made, { descriptor, diffId, step: history }],
      layers: [...built.layers, this.#maker.layerOn(built.layers, layer)],
    };
  }

  #run(built: Built, step: RunStep, tell: Tell): Work {
    const { execute, signal } = this.#options;
    const { run, args } = built.stage;
    if (!execute) throw new ImageError('unsupported', 'nobody is there to run commands: give an executor');
    const env = [...new Map([['PATH', DEFAULT_PATH], ...args, ...variables(run)])].map(
      ([name, value]) => `${name}=${value}`,
    );
    const command = {
      argv: commandOf(run, step.run),
      env,
      cwd: pathOf(run, '.'),
      user: run.User ?? '',
      ...(step.network === undefined ? {} : { network: step.network }),
    };
    return {
      key: { run: { ...command, env: [...env].sort() }, on: chainOf(built) },
      make: () =>
        this.#maker.make(built.layers, async (root) => {
          makeDirectory(root, command.cwd);
          const onOutput = (output: Uint8Array) => tell('output', output);
          const end = await execute({ ...command, root, onOutput, ...(signal ? { signal } : {}) });
          signal?.throwIfAborted();
          if (end.code === 0) return true;
          const how = end.code === null ? `was killed by ${end.signal}` : `exited with code ${end.code}`;
          throw new ImageError('badStep', `the command ${how}`);
        }),
    };
  }

  #directory(built: Built, path: string): Work {
    return {
      key: { directory: path, on: chainOf(built) },
      make: () => this.#maker.make(built.layers, async (root) => makeDirectory(root, path).made),
    };
  }

  async #copy(number: number, built: Built, step: BuildStep & object, tell: Tell): Promise<Built> {
    const copy = step as Parameters<typeof transfer>[0];
    const from = 'from' in copy ? copy.from : undefined;
    const source = from === undefined ? undefined : await this.#layersOf(from, number);
    tell('begun');
    return await transfer(copy, built, {
      context: this.#context,
      source,
      maker: this.#maker,
      fetchFile: async (address, checksum) => {
        const { layout, fetch = globalThis.fetch, fetchTimeout = 60_000, fetchLimit = 2 ** 40, signal } = this.#options;
        return await fetchFile(address, {
          checksum,
          fetch,
          timeout: fetchTimeout,
          limit: fetchLimit,
          signal,
          spool: await layout.content.temporary(),
        });
      },
      once: (keys, make) => this.#once(built, step, keys, make, tell),
    });
  }

  async #layersOf(from: string | number, number: number): Promise<readonly ImageLayer[]> {
    const earlier = this.#earlier(from, number) ?? (/^\d+$/.test(String(from)) ? Number(from) : undefined);
    if (earlier !== undefined) {
      if (earlier >= number) throw new ImageError('badStep', `there is no stage ${earlier} before this one`);
      return (await this.build(earlier)).layers;
    }
    return (await this.#image(String(from))).layers;
  }
}

type Tell = (state: BuildEvent['state'], output?: Uint8Array) => void;

function scopeOf({ stage }: Built) {
  return { config: stage.run, env: Object.fromEntries([...stage.args, ...variables(stage.run)]) };
}
