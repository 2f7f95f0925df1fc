import { randomBytes } from 'node:crypto';
import { open, readFile, rename, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { ContentStore } from '../content/content-store.js';
import { ImageError } from '../content/error.js';
import type { Blob } from '../content/ingest.js';
import { checkArgument } from '../file/argument.js';
import { openBeneath } from '../file/beneath.js';
import { isMissing, kernel, syncDirectory } from '../file/node.js';
import {
  type Descriptor,
  DOCUMENT_MAX,
  type ImageIndex,
  type ImageManifest,
  type Platform,
  parseIndex,
  parseJson,
  parseManifest,
} from './document.js';
import { Image } from './image.js';
import { documentKind, MEDIA_TYPE } from './media-type.js';
import { nearNames } from './near.js';
import { checkPlatform, hostPlatform, selectPlatform } from './platform.js';

/** How {@link ImageLayout.open} works. */
export interface LayoutOptions {
  /** Makes an empty one where there is none. */
  create?: boolean;
  /** Whether images survive a power cut once they have a name (default); false for what is thrown away. */
  durable?: boolean;
  /** @internal Reads what somebody else has made: no symbolic link in it is followed. */
  foreign?: boolean;
}

/** Something in a layout's index: an image, or an index of several. */
export interface NamedImage {
  /** Its name; none for what only its digest tells. */
  name?: string;
  descriptor: Descriptor;
}

/** Annotations that name an image: OCI's, which may be the tag alone, and containerd's and docker's whole one. */
export const NAME = { tag: 'org.opencontainers.image.ref.name', whole: 'io.containerd.image.name' } as const;
const VERSION = { imageLayoutVersion: '1.0.0' };
/** Indexes that lie in one another. */
const MAX_DEPTH = 4;
/** Most bytes of the layout's own index: every name is one line of it. */
const INDEX_MAX = 64 << 20;

/**
 * Images in a directory, as OCI's image layout has them: skopeo, umoci, podman and others read the same directory. Names are any text; `iso`
 * uses whole ones (`docker.io/library/debian:12`). No daemon: any number of processes may use it at once. What is named is complete,
 * whatever happens in between.
 *
 * @example
 * ```ts
 * import { mkdtempSync, rmSync } from 'node:fs';
 * import { ImageLayout, importImages, packTree } from '@iso/unionfs';
 * const directory = mkdtempSync('/tmp/iso-layout-');
 * const layout = await ImageLayout.open(directory, { create: true });
 * async function* archive() {
 *   yield* packTree('/etc/default');
 * }
 * await importImages(layout, archive(), { name: 'defaults' });
 * const image = await layout.image('defaults');
 * rmSync(directory, { recursive: true });
 * if (image.layers.length !== 1) throw new Error('other layers');
 * ```
 */
export class ImageLayout {
  /** The blobs of its images. */
  readonly content: ContentStore;
  readonly #durable: boolean;
  readonly #foreign: boolean;

  private constructor(content: ContentStore, durable: boolean, foreign: boolean) {
    this.content = content;
    this.#durable = durable;
    this.#foreign = foreign;
  }

  /**
   * Opens a layout.
   *
   * @param directory - where it lies
   * @param options - see {@link LayoutOptions}
   * @returns the layout; it holds nothing open
   * @throws {@link ImageError} `badArchive` where there is none, `unsupported` for one of another version
   */
  static async open(directory: string, options: LayoutOptions = {}): Promise<ImageLayout> {
    checkArgument('directory', directory, 'a path');
    const { create = false, durable = true, foreign = false } = options;
    const content = await ContentStore.open(directory, { durable, foreign });
    const layout = new ImageLayout(content, durable, foreign);
    const version = await readSmall(directory, 'oci-layout', 1 << 16, foreign);
    if (version) checkVersion(version);
    else if (create) {
      using _ = await content.lock('index', 'exclusive');
      if (!(await readSmall(directory, 'index.json', INDEX_MAX, foreign))) await layout.#writeIndex([]);
      await layout.#writeFile('oci-layout', VERSION);
    } else throw new ImageError('badArchive', `no image layout: ${directory}`, { subject: directory });
    return layout;
  }

  /**
   * All that is named, and what only its digest tells.
   *
   * @returns in the index's order
   * @throws {@link ImageError} `badDocument`
   */
  async list(): Promise<NamedImage[]> {
    return (await this.#readIndex()).map((descriptor) => {
      const { [NAME.tag]: tag, [NAME.whole]: whole } = descriptor.annotations ?? {};
      const name = whole ?? tag;
      return { ...(name === undefined ? {} : { name }), descriptor };
    });
  }

  /**
   * What a name or a digest stands for.
   *
   * @param name - as it was given; or the digest of a manifest, an index or a config, whole or its first digits (at least 6)
   * @returns its descriptor
   * @throws {@link ImageError} `notFound`, `ambiguous`
   */
  async find(name: string): Promise<Descriptor> {
    checkArgument('name', name, 'a name');
    const all = await this.list();
    const named = all.findLast((image) => image.name === name);
    if (named) return named.descriptor;
    const digits = /^(?:sha256:)?([0-9a-f]{6,64})$/.exec(name)?.[1];
    const found = new Map<string, Descriptor>();
    for (const { descriptor } of digits ? all : []) {
      for (const digest of [descriptor.digest, ...(await this.#configs(descriptor))]) {
        if (digest.startsWith(`sha256:${digits}`)) found.set(descriptor.digest, descriptor);
      }
    }
    const [one, another] = found.values();
    if (one && another) throw new ImageError('ambiguous', `several images begin with ${name}`, { subject: name });
    if (!one) {
      const near = nearNames(
        name,
        all.flatMap((image) => image.name ?? []),
      ).join(', ');
      const hint = near ? { hint: `there is ${near}` } : {};
      throw new ImageError('notFound', `no image ${JSON.stringify(name)}`, { subject: name, ...hint });
    }
    return one;
  }

  /**
   * Opens an image.
   *
   * @param name - its name or digest, or a descriptor
   * @param options - `platform`: of which image of an index, default this machine's
   * @returns the image; everything about it has been read and checked but the layers
   * @throws {@link ImageError} `notFound`, `noPlatform`, `badDocument`, `unsupported` for what is no image
   */
  async image(name: string | Descriptor, options: { platform?: Platform } = {}): Promise<Image> {
    checkPlatform(options.platform);
    let descriptor = typeof name === 'object' ? name : await this.find(name);
    for (let depth = 0; documentKind(descriptor.mediaType) === 'index'; depth++) {
      if (depth === MAX_DEPTH) throw new ImageError('tooLarge', 'indexes are too deep inside another');
      const { manifests } = await this.index(descriptor);
      descriptor = selectPlatform(manifests, options.platform ?? hostPlatform());
    }
    return await Image.open(this, descriptor);
  }

  /** The index that a descriptor stands for, checked. */
  async index(descriptor: Descriptor): Promise<ImageIndex> {
    return parseIndex(await this.document(descriptor), descriptor.mediaType);
  }

  /** The manifest that a descriptor stands for, checked. */
  async manifest(descriptor: Descriptor): Promise<ImageManifest> {
    return parseManifest(await this.document(descriptor), descriptor.mediaType);
  }

  /** The bytes of a document: of its size, hashed. */
  async document({ digest, size }: Descriptor): Promise<Buffer> {
    const bytes = await this.content.read(digest, { limit: DOCUMENT_MAX });
    if (bytes.length !== size) {
      throw new ImageError('wrongSize', `a document of ${bytes.length} bytes that should have ${size}`, { digest });
    }
    return bytes;
  }

  /**
   * Gives an image a name, which no other has afterwards. An image without any name stays, with its digest, as it is.
   *
   * @param name - any text but an empty one
   * @param image - an image, or the descriptor of one or of an index, that is complete
   */
  async tag(name: string, image: Image | Descriptor): Promise<void> {
    checkArgument('name', name, 'a name');
    checkArgument('image', image, 'an image, as layout.image() gives, or a descriptor');
    if (name === '' || name.length > 1000) throw new ImageError('badName', 'not a name of an image', { subject: name });
    const { annotations, ...rest } = bare(image);
    const named = { ...rest, annotations: { ...annotations, [NAME.tag]: name } };
    await this.#enter(named, (all) => all.filter((entry) => nameOf(entry) !== name));
  }

  /**
   * Keeps an image without a name.
   *
   * @param image - an image, or the descriptor of one or of an index, that is complete
   */
  async add(image: Image | Descriptor): Promise<void> {
    const added = bare(image);
    await this.#enter(added, (all) => all.filter((entry) => entry.digest !== added.digest || nameOf(entry)));
  }

  /**
   * Takes a name away. Blobs stay until {@link ImageLayout.gc}.
   *
   * @param name - the name, or the digest of an image, which loses all of its names then
   * @returns the names that are gone; none where there was no such image
   */
  async untag(name: string): Promise<string[]> {
    checkArgument('name', name, 'a name');
    const gone: string[] = [];
    await this.#change((all) =>
      all.filter((entry) => {
        const other = nameOf(entry);
        if (other !== name && entry.digest !== name) return true;
        gone.push(other ?? entry.digest);
        return false;
      }),
    );
    return gone;
  }

  /**
   * Removes the blobs that no image of the index needs, and what is left of writers that died.
   *
   * @param options - `dryRun` removes nothing; `signal` gives up, also the wait for imports that run
   * @returns what was removed, or would be
   * @throws {@link ImageError} where the index cannot be read: nothing is removed then
   */
  async gc(options: { dryRun?: boolean; signal?: AbortSignal } = {}): Promise<Blob[]> {
    return await this.content.collect(() => this.#needed(), options);
  }

  /**
   * The snapshots that images of this layout would unpack to: what a store of snapshots is to keep.
   *
   * @returns chainIDs of whole images, of every platform that is here
   */
  async roots(): Promise<Set<string>> {
    const roots = new Set<string>();
    for (const descriptor of await this.#manifests()) {
      const image = await Image.open(this, descriptor).catch((error: unknown) => {
        if (ImageError.is(error, 'unsupported')) return undefined;
        throw error;
      });
      if (image?.chainId) roots.add(image.chainId);
    }
    return roots;
  }

  /** Manifests that are here, also those in indexes. */
  async #manifests(): Promise<Descriptor[]> {
    const found: Descriptor[] = [];
    await this.#walk(await this.#readIndex(), async (descriptor, kind) => {
      if (kind === 'manifest') found.push(descriptor);
    });
    return found;
  }

  async #needed(): Promise<Set<string>> {
    const needed = new Set<string>();
    await this.#walk(await this.#readIndex(), async (descriptor, kind) => {
      needed.add(descriptor.digest);
      if (kind !== 'manifest') return;
      const { config, layers } = await this.manifest(descriptor);
      for (const { digest } of [config, ...layers]) needed.add(digest);
    });
    return needed;
  }

  /** Digests of configs, which people know images by, too. */
  async #configs(descriptor: Descriptor): Promise<string[]> {
    const found: string[] = [];
    await this.#walk([descriptor], async (inner, kind) => {
      if (kind === 'manifest') found.push((await this.manifest(inner)).config.digest);
    });
    return found;
  }

  /** Everything that descriptors lead to; an index may name images of other platforms that were not fetched. */
  async #walk(
    descriptors: readonly Descriptor[],
    visit: (descriptor: Descriptor, kind: ReturnType<typeof documentKind>) => Promise<void>,
    depth = 0,
  ): Promise<void> {
    if (depth > MAX_DEPTH) throw new ImageError('tooLarge', 'indexes are too deep inside another');
    for (const descriptor of descriptors) {
      const kind = documentKind(descriptor.mediaType);
      if (depth > 0 && (await this.content.size(descriptor.digest)) === undefined) continue;
      await visit(descriptor, kind);
      if (kind === 'index') await this.#walk((await this.index(descriptor)).manifests, visit, depth + 1);
    }
  }

  async #readIndex(): Promise<Descriptor[]> {
    const { directory } = this.content;
    const bytes = await readSmall(directory, 'index.json', INDEX_MAX, this.#foreign);
    const path = join(directory, 'index.json');
    if (!bytes) throw new ImageError('badArchive', `an image layout without index.json: ${path}`, { subject: path });
    return parseIndex(bytes).manifests;
  }

  async #enter(entry: Descriptor, others: (manifests: Descriptor[]) => Descriptor[]): Promise<void> {
    // What nothing named until now must not be collected in between.
    using _ = await this.content.hold();
    if ((await this.content.size(entry.digest)) === undefined) {
      throw new ImageError('notFound', `there is no blob ${entry.digest}`, { digest: entry.digest });
    }
    await this.#change((all) => [...others(all), entry]);
  }

  /** Reads, changes and writes the index while nobody else does. */
  async #change(change: (manifests: Descriptor[]) => Descriptor[]): Promise<void> {
    using _ = await this.content.lock('index', 'exclusive');
    await this.#writeIndex(change(await this.#readIndex()));
  }

  async #writeIndex(manifests: Descriptor[]): Promise<void> {
    await this.#writeFile('index.json', { schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests });
  }

  /** The old file or the new one is there, never half of one. */
  async #writeFile(name: string, value: unknown): Promise<void> {
    const { directory } = this.content;
    const temporary = join(directory, '.iso', `${name}-${randomBytes(6).toString('hex')}`);
    try {
      {
        await using file = await kernel(open(temporary, 'wx', 0o644));
        await kernel(file.writeFile(JSON.stringify(value)));
        if (this.#durable) await kernel(file.sync());
      }
      await kernel(rename(temporary, join(directory, name)));
    } catch (error) {
      await unlink(temporary).catch(() => {});
      throw error;
    }
    if (this.#durable) await syncDirectory(directory);
  }
}

/** What an index says of an image, without a name. */
function bare(image: Image | Descriptor): Descriptor {
  const { annotations = {}, ...rest } = 'descriptor' in image ? image.descriptor : image;
  const { [NAME.whole]: _, [NAME.tag]: __, ...others } = annotations;
  return { ...rest, ...(Object.keys(others).length ? { annotations: others } : {}) };
}

/** The name of an entry of an index. */
function nameOf({ annotations = {} }: Descriptor): string | undefined {
  return annotations[NAME.whole] ?? annotations[NAME.tag];
}

/** A small file, or nothing where there is none. */
async function readSmall(
  directory: string,
  name: string,
  limit: number,
  foreign: boolean,
): Promise<Buffer | undefined> {
  const path = join(directory, name);
  try {
    if (foreign) {
      await using file = await openBeneath(directory, name);
      if (!file) throw new ImageError('badArchive', `no file: ${path}`, { subject: path });
      const { size } = await kernel(file.stat());
      if (size > limit) throw new ImageError('tooLarge', `${path} has ${size} bytes, ${limit} are allowed`);
      return await kernel(file.readFile());
    }
    const found = await kernel(stat(path));
    if (!found.isFile()) throw new ImageError('badArchive', `no file: ${path}`, { subject: path });
    const { size } = found;
    if (size > limit) throw new ImageError('tooLarge', `${path} has ${size} bytes, ${limit} are allowed`);
    return await kernel(readFile(path));
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/**
 * Checks the file that says what a layout is.
 *
 * @param bytes - of `oci-layout`
 * @throws {@link ImageError} `unsupported`, `badDocument`
 */
export function checkVersion(bytes: Uint8Array): void {
  const version = (parseJson(bytes, 'oci-layout') as { imageLayoutVersion?: unknown } | null)?.imageLayoutVersion;
  if (version !== VERSION.imageLayoutVersion) {
    throw new ImageError('unsupported', `an image layout of version ${JSON.stringify(version ?? null)}`);
  }
}
