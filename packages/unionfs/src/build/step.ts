import { invalid } from '@iso/sys';
import { checkArgument } from '../file/argument.js';
import type { Healthcheck, RunConfig } from '../image/document.js';

/** Where a step was written, for what goes wrong with it and for the image's history. */
export interface StepOrigin {
  file?: string;
  /** The first one is 1. */
  line?: number;
  /** The instruction as it stands there. */
  text: string;
}

/** A file whose content the step brings along. */
export interface InlineFile {
  /** One component. */
  name: string;
  content: string | Uint8Array;
}

/** What {@link CopyStep} and {@link AddStep} share. */
export interface PlaceOptions {
  /** Where it goes: absolute, or below the working directory; a directory ends in a slash. */
  to: string;
  /** `NAME|UID[:GROUP|GID]`, looked up in the image's own files; default is root, and from another stage whose it was. */
  chown?: string;
  /** Permission bits of what is copied; default is what it has. */
  chmod?: number;
  /**
   * Patterns of what is left out, as lines of a `.dockerignore`: of a directory that is copied by the path in it, else by the name.
   */
  exclude?: readonly string[];
}

/** Files of the context, or of another stage or image: what docker's COPY does. */
export interface CopyStep extends PlaceOptions {
  /** Paths or patterns; the content of a directory is copied, not itself. */
  copy: readonly (string | InlineFile)[];
  /** An earlier stage by name or number, or an image; default is the context. */
  from?: string | number;
  /**
   * The directories that a source lies in are copied with it: those of the context, or those behind `/./` in its path. In patterns `**`
   * stands for any number of directories then.
   */
  parents?: boolean;
}

/**
 * As {@link CopyStep}, and archives (tar, as it is or with gzip or zstd) are unpacked. A source that begins with `http://` or `https://` is
 * fetched, and never unpacked; its mode is 0600 unless that is said, its time the server's. What docker's ADD does.
 */
export interface AddStep extends PlaceOptions {
  add: readonly (string | InlineFile)[];
  /** `sha256:…` of the one source, which is an address: what is known is not fetched again. */
  checksum?: string;
}

/** A command in a container of what is there so far; what it changes is a layer. */
export interface RunStep {
  /** A line for the shell, or program and arguments. */
  run: string | readonly string[];
  /** Means what the executor takes it for. */
  network?: string;
}

/**
 * One step of a build: the key says which. Values are taken as they are, there is nothing to substitute.
 *
 * - `run`, `copy`, `add`, `workdir`: a layer each
 * - `arg`: variables of the build, for later commands; a value of undefined takes one away. They are not in the image.
 * - `env`, `user`, `entrypoint`, `cmd`, `labels`, `expose` (`80`, `53/udp`), `volumes`, `shell`, `stopSignal`, `healthcheck`, `onBuild`,
 *   `author`: the image's config. A text as `entrypoint` or `cmd` is a line for the shell.
 */
export type BuildStep = (
  | RunStep
  | CopyStep
  | AddStep
  | { workdir: string }
  | { arg: Readonly<Record<string, string | undefined>> }
  | { env: Readonly<Record<string, string>> }
  | { user: string }
  | { entrypoint: string | readonly string[] }
  | { cmd: string | readonly string[] }
  | { labels: Readonly<Record<string, string>> }
  | { expose: readonly string[] }
  | { volumes: readonly string[] }
  | { shell: readonly string[] }
  | { stopSignal: string }
  | { healthcheck: Healthcheck }
  | { onBuild: readonly string[] }
  | { author: string }
) & { origin?: StepOrigin };

/** What is known where a step begins. */
export interface BuildScope {
  /** How containers of the image so far are run. */
  readonly config: Readonly<RunConfig>;
  /** Variables that a command would see: those of the image, and of the build. */
  readonly env: Readonly<Record<string, string>>;
}

/** A step, or what makes one or several when it is their turn, of what is known by then. */
export type StepSource = BuildStep | ((scope: BuildScope) => StepSource | readonly StepSource[]);

/** A file system that is built: steps on something that is there. */
export interface BuildStage {
  /** By which later stages and `target` know it. */
  name?: string;
  /** `scratch`, an earlier stage by its name or number, or the name of an image. */
  from: string | number;
  /** Of the image, where it is one of several platforms. */
  platform?: string;
  steps: readonly StepSource[];
  origin?: StepOrigin;
}

const text = (value: unknown) => typeof value === 'string' && !value.includes('\0');
const word = (value: unknown) => text(value) && value !== '';
const list = (of: (value: unknown) => boolean) => (value: unknown) => Array.isArray(value) && value.every(of);
const some = (of: (value: unknown) => boolean) => (value: unknown) => list(of)(value) && (value as []).length > 0;
const record = (key: RegExp, of: (value: unknown) => boolean) => (value: unknown) =>
  typeof value === 'object' &&
  value !== null &&
  !Array.isArray(value) &&
  Object.entries(value).every(([name, each]) => key.test(name) && of(each));
const command = (value: unknown) => text(value) || list(text)(value);
const inline = (value: unknown) => {
  const { name, content } = (value ?? {}) as InlineFile;
  return word(name) && !/^\.{1,2}$|\//.test(name) && (typeof content === 'string' || content instanceof Uint8Array);
};
const sources = some((value) => word(value) || inline(value));
const NAME = /^[^=\0]+$/;
const place = {
  to: word,
  chown: word,
  chmod: (value: unknown) => Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 0o7777,
  exclude: list(word),
};
const time = (value: unknown) => Number.isFinite(value) && (value as number) >= 0;

/** Each step's own key with the other ones that it may have, and what they must be. */
const SHAPES: Readonly<Record<string, Readonly<Record<string, (value: unknown) => boolean>>>> = {
  run: { run: (value) => word(value) || some(text)(value), network: word },
  copy: {
    copy: sources,
    from: (value) => word(value) || Number.isInteger(value),
    parents: (value) => typeof value === 'boolean',
    ...place,
  },
  add: { add: sources, checksum: word, ...place },
  workdir: { workdir: word },
  arg: { arg: record(NAME, (value) => value === undefined || text(value)) },
  env: { env: record(NAME, text) },
  user: { user: word },
  entrypoint: { entrypoint: command },
  cmd: { cmd: command },
  labels: { labels: record(/./s, text) },
  expose: { expose: list((value) => text(value) && portRange(value as string) !== undefined) },
  volumes: { volumes: some(word) },
  shell: { shell: some(word) },
  stopSignal: { stopSignal: (value) => text(value) && /^((SIG)?[A-Z][A-Z0-9+-]*|\d{1,2})$/.test(value as string) },
  healthcheck: {
    healthcheck: (value) =>
      record(
        /^(test|interval|timeout|startPeriod|startInterval|retries)$/,
        (each) => command(each) || time(each),
      )(value) &&
      ((value as Healthcheck).test === 'none' || command((value as Healthcheck).test)),
  },
  onBuild: { onBuild: list(word) },
  author: { author: text },
};

/**
 * Checks a step, and tells which it is.
 *
 * @param step - anything
 * @returns the key that says what it does
 * @throws `TypeError` for keys and values that mean nothing
 */
export function checkStep(step: BuildStep): string {
  checkArgument('a step', step, 'options: { … }');
  const keys = Object.keys(step).filter((key) => (step as Record<string, unknown>)[key] !== undefined);
  const kinds = keys.filter((key) => Object.hasOwn(SHAPES, key));
  const [kind] = kinds;
  if (kind === undefined || kinds.length > 1) {
    const has = (kinds.length ? kinds : keys).map((key) => JSON.stringify(key)).join(' and ') || 'nothing';
    throw invalid(`not a step of a build: it has ${has}, and must have one of ${Object.keys(SHAPES).join(', ')}`);
  }
  const shape = SHAPES[kind] as (typeof SHAPES)[string];
  for (const key of keys) {
    if (key === 'origin') continue;
    const value = (step as Record<string, unknown>)[key];
    if (!Object.hasOwn(shape, key)) throw invalid(`a step "${kind}" has no "${key}"`);
    if (!shape[key]?.(value)) throw invalid(`not a value of "${key}": ${JSON.stringify(value)?.slice(0, 200)}`);
  }
  if ((kind === 'copy' || kind === 'add') && (step as PlaceOptions).to === undefined) {
    throw invalid(`a step "${kind}" without "to"`);
  }
  return kind;
}

/**
 * Ports as `EXPOSE` names them: `80`, `53/udp`, `8000-8005/tcp`.
 *
 * @param range - as it was given
 * @returns them one by one; undefined for what is none
 */
export function portRange(range: string): string[] | undefined {
  const [, first, last = first, protocol = 'tcp'] =
    /^(\d{1,5})(?:-(\d{1,5}))?(?:\/(tcp|udp|sctp))?$/i.exec(range) ?? [];
  const [from, to] = [Number(first), Number(last)];
  if (!(from >= 1 && to >= from && to <= 65535)) return undefined;
  return Array.from({ length: to - from + 1 }, (_, i) => `${from + i}/${protocol.toLowerCase()}`);
}

/** A step in one line, for its history and for messages. */
export function stepText(step: BuildStep): string {
  if (step.origin) return step.origin.text;
  const { origin: _, ...rest } = step;
  // A Buffer has become an array of numbers by the time that its value is passed.
  function short(this: Readonly<Record<string, unknown>>, key: string, value: unknown) {
    const { [key]: given } = this;
    return given instanceof Uint8Array ? `${given.length} bytes` : value;
  }
  const said = (key: string, value: unknown) => {
    if (key === 'chmod') return `0${(value as number).toString(8)}`;
    return typeof value === 'string' ? value : JSON.stringify(value, short);
  };
  return Object.entries(rest)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key} ${said(key, value)}`)
    .join(' ');
}
