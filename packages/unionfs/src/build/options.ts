import type { Compression } from '../compression/compression.js';
import type { Image } from '../image/image.js';
import type { ImageLayout } from '../image/layout.js';
import type { Store } from '../store/store.js';
import type { BuildExecutor } from './execute.js';

/** Files that a build may take. */
export interface BuildContext {
  /** Directory; nothing outside of it is reached, whatever symbolic links it holds. */
  directory: string;
  /** Lines as of a `.dockerignore` file: what is not there for the build. */
  ignore?: readonly string[];
}

/** What happens in a build. Steps come one after the other. */
export interface BuildEvent {
  /** Counts the steps of the whole build, from 1. */
  id: number;
  /** Name or number of the stage; empty where there is only one. */
  stage: string;
  /** Of this step in its stage, from 1; the first one is what the stage begins with. */
  index: number;
  /** Of the stage. */
  count: number;
  /** The step, one line. */
  text: string;
  state: 'begun' | 'output' | 'cached' | 'done' | 'failed';
  /** What a command has written, where the state is `output`. */
  output?: Uint8Array;
}

/** How {@link buildImage} works. */
export interface BuildOptions {
  /** Where images and layers are, and go. */
  layout: ImageLayout;
  /** Where layers are unpacked, and made. */
  store: Store;
  /** Files for `copy` and `add`; none without. */
  context?: BuildContext;
  /** Runs commands; without, a step `run` is an error. */
  execute?: BuildExecutor;
  /** Fetches what a step `add` names by its address; default is Node's own. */
  fetch?: typeof globalThis.fetch;
  /** Milliseconds in which something of it must come; default 60 seconds. */
  fetchTimeout?: number;
  /** Most bytes of one file that is fetched; default 1 TiB. */
  fetchLimit?: number;
  /** Finds what a stage begins with, or a copy is `from`; default is what the layout has by that name. */
  image?: (name: string, platform: string | undefined) => Promise<Image>;
  /** Stage to end with, by name or number; default is the last one. Stages that it does not need are not built. */
  target?: string | number;
  /** Directory that remembers steps; without, each one is done. It is of use as long as the layers' blobs are in the layout. */
  cache?: string;
  /** Does every step, and remembers it. */
  noCache?: boolean;
  /** Where an image that is built from nothing runs; default is this machine's. */
  platform?: string;
  /** Added to the image's own. */
  labels?: Readonly<Record<string, string>>;
  /** Seconds since 1970: no time in the image is later (SOURCE_DATE_EPOCH), so that two builds of the same give the same bytes. */
  epoch?: number;
  /** Of the layers' blobs; default is gzip. */
  compression?: Compression;
  signal?: AbortSignal;
  /** Told what happens. */
  onProgress?: (event: BuildEvent) => void;
}
