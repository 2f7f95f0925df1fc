import { splitDigest } from '../content/digest.js';
import { ImageError } from '../content/error.js';
import { documentKind } from './media-type.js';

/** What a blob is for, see OCI's descriptor.md. */
export interface Descriptor {
  mediaType: string;
  digest: string;
  /** Bytes. */
  size: number;
  platform?: Platform;
  annotations?: Record<string, string>;
  urls?: string[];
}

/** Where an image runs, by Go's names. */
export interface Platform {
  os: string;
  architecture: string;
  variant?: string;
  'os.version'?: string;
}

/** Several images of one name, see OCI's image-index.md. */
export interface ImageIndex {
  schemaVersion: 2;
  mediaType?: string;
  manifests: Descriptor[];
  annotations?: Record<string, string>;
}

/** The parts of an image, see OCI's manifest.md. */
export interface ImageManifest {
  schemaVersion: 2;
  mediaType?: string;
  config: Descriptor;
  layers: Descriptor[];
  annotations?: Record<string, string>;
}

/** How a container of an image is run; see OCI's config.md. Whoever wrote it may have added more. */
export interface RunConfig {
  User?: string;
  Env?: string[];
  Entrypoint?: string[];
  Cmd?: string[];
  WorkingDir?: string;
  StopSignal?: string;
  Labels?: Record<string, string>;
  ExposedPorts?: Record<string, object>;
  Volumes?: Record<string, object>;
  /** Docker's: what runs commands that are a line of text. */
  Shell?: string[];
  /** Docker's: how it is found out whether a container is well; times in nanoseconds. */
  Healthcheck?: {
    Test?: string[];
    Interval?: number;
    Timeout?: number;
    StartPeriod?: number;
    StartInterval?: number;
    Retries?: number;
  };
  /** Docker's: instructions for images that are built on it. */
  OnBuild?: string[];
}

/** How it is found out whether a container is well, docker's HEALTHCHECK. */
export interface Healthcheck {
  /** A line for the shell, program and arguments, or `none` for not at all, whatever is below. */
  test: string | readonly string[] | 'none';
  /** Milliseconds. */
  interval?: number;
  /** Milliseconds. */
  timeout?: number;
  /** Milliseconds. */
  startPeriod?: number;
  /** Milliseconds. */
  startInterval?: number;
  retries?: number;
}

/** One step that led to an image. */
export interface HistoryEntry {
  created?: string;
  created_by?: string;
  author?: string;
  comment?: string;
  /** It made no layer. */
  empty_layer?: boolean;
}

/** What an image is, see OCI's config.md. Whoever wrote it may have added more. */
export interface ImageConfig extends Platform {
  created?: string;
  author?: string;
  config?: RunConfig;
  rootfs: { type: 'layers'; diff_ids: string[] };
  history?: HistoryEntry[];
}

/** Most bytes of a document; registries take no more either. */
export const DOCUMENT_MAX = 4 << 20;
/** Most layers, and most images of an index. */
const MANY = 10_000;

type Fields = Record<string, unknown>;

/**
 * Parses JSON that somebody else wrote.
 *
 * @param bytes - UTF-8
 * @param what - for messages
 * @returns any value
 * @throws {@link ImageError} `badDocument`, `tooLarge`
 */
export function parseJson(bytes: Uint8Array, what: string): unknown {
  if (bytes.length > DOCUMENT_MAX) {
    throw new ImageError('tooLarge', `${what} has ${bytes.length} bytes, ${DOCUMENT_MAX} are allowed`);
  }
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    // No more of what the error says: it shows some of the text, which may be no document at all, or a secret.
    const where = / position \d+/.exec((error as Error).message)?.[0];
    throw new ImageError('badDocument', `${what} is no JSON${where ? ` at${where}` : ''}`);
  }
}

/**
 * Parses an index.
 *
 * @param bytes - JSON
 * @param mediaType - as its descriptor says, where there is one
 * @returns the index; fields that are not known stay in it
 * @throws {@link ImageError} `badDocument`, `ambiguous`, `tooLarge`
 */
export function parseIndex(bytes: Uint8Array, mediaType?: string): ImageIndex {
  const index = fields(parseJson(bytes, 'an index'), 'an index');
  checkKind(index, 'index', mediaType);
  list(index, 'manifests', 'an index').forEach((entry, i) => {
    descriptor(entry, `manifests[${i}]`);
  });
  record(index, 'annotations', 'an index', 'string');
  return index as unknown as ImageIndex;
}

/**
 * Parses a manifest.
 *
 * @param bytes - JSON
 * @param mediaType - as its descriptor says
 * @returns the manifest; fields that are not known stay in it
 * @throws {@link ImageError} `badDocument`, `ambiguous`, `tooLarge`
 */
export function parseManifest(bytes: Uint8Array, mediaType?: string): ImageManifest {
  const manifest = fields(parseJson(bytes, 'a manifest'), 'a manifest');
  checkKind(manifest, 'manifest', mediaType);
  descriptor(manifest.config, 'config');
  list(manifest, 'layers', 'a manifest').forEach((entry, i) => {
    descriptor(entry, `layers[${i}]`);
  });
  record(manifest, 'annotations', 'a manifest', 'string');
  return manifest as unknown as ImageManifest;
}

/**
 * Parses the config of an image.
 *
 * @param bytes - JSON
 * @returns the config; fields that are not known stay in it
 * @throws {@link ImageError} `badDocument`, `tooLarge`
 */
export function parseConfig(bytes: Uint8Array): ImageConfig {
  const what = 'the config of an image';
  const config = fields(parseJson(bytes, what), what);
  for (const name of ['os', 'architecture'] as const) {
    // Docker wrote images without them, for the one platform that there was.
    if (config[name] === undefined || config[name] === '') config[name] = name === 'os' ? 'linux' : 'amd64';
  }
  for (const name of ['os', 'architecture', 'variant', 'os.version', 'created', 'author']) text(config, name, what);
  const rootfs = fields(config.rootfs, 'rootfs');
  if (rootfs.type !== 'layers') throw bad('rootfs.type is not "layers"');
  for (const id of list(rootfs, 'diff_ids', 'rootfs')) {
    if (typeof id !== 'string') throw bad('a diffID is no text');
    splitDigest(id);
  }
  list(config, 'history', what).forEach((entry, i) => {
    const step = fields(entry, `history[${i}]`);
    for (const name of ['created', 'created_by', 'author', 'comment']) text(step, name, `history[${i}]`);
    if (step.empty_layer !== undefined && typeof step.empty_layer !== 'boolean') throw bad('empty_layer is no boolean');
  });
  if (config.config !== undefined) checkRun(fields(config.config, 'config.config'));
  return config as unknown as ImageConfig;
}

function checkRun(run: Fields): void {
  const what = 'config.config';
  for (const name of ['User', 'WorkingDir', 'StopSignal']) text(run, name, what);
  for (const name of ['Env', 'Entrypoint', 'Cmd', 'Shell', 'OnBuild']) {
    if (run[name] === undefined) continue;
    // Very old images have one word as a text.
    if (typeof run[name] === 'string' && name !== 'Env') run[name] = [run[name]];
    for (const word of list(run, name, what)) if (typeof word !== 'string') throw bad(`${what}.${name} holds no text`);
  }
  record(run, 'Labels', what, 'string');
  for (const name of ['ExposedPorts', 'Volumes']) record(run, name, what, 'object');
}

function bad(message: string): ImageError {
  return new ImageError('badDocument', message);
}

/** An object. What is null is left out, as Go means it; keys that Go takes for one another are refused. */
function fields(value: unknown, what: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad(`${what} is no object`);
  const object = value as Fields;
  const seen = new Map<string, string>();
  for (const key of Object.keys(object)) {
    const twin = seen.get(key.toLowerCase());
    if (twin !== undefined) {
      throw new ImageError('ambiguous', `${what} has both ${JSON.stringify(twin)} and ${JSON.stringify(key)}`);
    }
    seen.set(key.toLowerCase(), key);
    if (object[key] === null) delete object[key];
  }
  return object;
}

/** An array, empty where there is none. */
function list(object: Fields, name: string, what: string): unknown[] {
  const value = (object[name] ??= []);
  if (!Array.isArray(value)) throw bad(`${what}.${name} is no array`);
  if (value.length > MANY) throw new ImageError('tooLarge', `${what}.${name} has more than ${MANY} elements`);
  return value;
}

function text(object: Fields, name: string, what: string): void {
  if (object[name] !== undefined && typeof object[name] !== 'string') throw bad(`${what}.${name} is no text`);
}

function record(object: Fields, name: string, what: string, type: 'string' | 'object'): void {
  if (object[name] === undefined) return;
  const value = object[name];
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad(`${what}.${name} is no object`);
  // Names of labels may differ in case alone.
  for (const [key, entry] of Object.entries(value)) {
    if (typeof entry !== type && !(type === 'object' && entry === null)) {
      throw bad(`${what}.${name}[${JSON.stringify(key)}] is no ${type === 'string' ? 'text' : type}`);
    }
  }
}

/** Checks a descriptor. */
function descriptor(value: unknown, what: string): void {
  const object = fields(value, what);
  if (typeof object.mediaType !== 'string' || !object.mediaType) throw bad(`${what} has no media type`);
  if (typeof object.digest !== 'string') throw bad(`${what} has no digest`);
  splitDigest(object.digest);
  if (!Number.isSafeInteger(object.size) || (object.size as number) < 0) throw bad(`${what}.size is no size`);
  record(object, 'annotations', what, 'string');
  if (object.urls !== undefined && !list(object, 'urls', what).every((url) => typeof url === 'string')) {
    throw bad(`${what}.urls holds no text`);
  }
  if (object.platform === undefined) return;
  const platform = fields(object.platform, `${what}.platform`);
  for (const name of ['os', 'architecture', 'variant', 'os.version']) text(platform, name, `${what}.platform`);
  platform.os ??= '';
  platform.architecture ??= '';
}

/** A document is what its descriptor and itself say, and cannot be taken for the other kind (CVE-2021-41190). */
function checkKind(document: Fields, kind: 'index' | 'manifest', mediaType: string | undefined): void {
  const what = kind === 'index' ? 'an index' : 'a manifest';
  if (document.schemaVersion !== 2) {
    throw new ImageError('unsupported', `${what} of schema version ${JSON.stringify(document.schemaVersion ?? null)}`);
  }
  text(document, 'mediaType', what);
  const own = document.mediaType as string | undefined;
  if (own !== undefined && (documentKind(own) !== kind || (mediaType !== undefined && own !== mediaType))) {
    throw new ImageError('ambiguous', `${what} says that it is ${own}${mediaType ? `, not ${mediaType}` : ''}`);
  }
  const others = kind === 'index' ? ['config', 'layers', 'fsLayers'] : ['manifests', 'fsLayers'];
  const other = others.find((name) => document[name] !== undefined);
  if (other) throw new ImageError('ambiguous', `${what} has ${other} too`);
}
