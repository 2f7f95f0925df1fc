import { detectCompression } from '../compression/compression.js';
import { digestOf, Hasher } from '../content/digest.js';
import { ImageError } from '../content/error.js';
import type { ImageLimits } from './admit.js';
import type { ArchiveFile } from './archive.js';
import { type Descriptor, DOCUMENT_MAX, type ImageManifest, parseConfig, parseJson } from './document.js';
import { type ImageLayout, NAME } from './layout.js';
import { layerType, MEDIA_TYPE } from './media-type.js';
import { formatReference, parseReference } from './reference.js';

/** What `docker save` wrote, as OCI says it. */
export interface DockerArchive {
  /** Of each name one; of an image without a name one. */
  descriptors: Descriptor[];
  /** Which file of the archive is which blob. */
  files: Map<string, string>;
}

interface SavedImage {
  Config: string;
  RepoTags: string[];
  Layers: string[];
}

/**
 * Reads what `docker save` wrote. It has no manifests: those are made here, and written to the layout.
 *
 * @param layout - where manifests go
 * @param archive - the archive
 * @param options - limits
 * @returns images and blobs; nothing where the file is something else of that name
 * @throws {@link ImageError}
 */
export async function readDockerArchive(
  layout: ImageLayout,
  archive: ArchiveFile,
  options: { limits?: ImageLimits | undefined; signal?: AbortSignal | undefined },
): Promise<DockerArchive | undefined> {
  if (!archive.has('manifest.json')) {
    throw new ImageError('unsupported', 'an archive of docker before 1.10, which has no manifest.json', {
      hint: 'load it into docker, and save it again',
    });
  }
  const list = savedImages(parseJson(await archive.read('manifest.json', DOCUMENT_MAX), 'manifest.json'));
  // A root file system may have a file of that name.
  if (!list) return undefined;
  const descriptors: Descriptor[] = [];
  const files = new Map<string, string>();
  const blobs = new Map<string, Descriptor>();
  for (const { Config, RepoTags, Layers } of list) {
    const bytes = await archive.read(Config, DOCUMENT_MAX);
    const { rootfs } = parseConfig(bytes);
    if (rootfs.diff_ids.length !== Layers.length) {
      throw new ImageError('badDocument', `${Layers.length} layers, and ${rootfs.diff_ids.length} diffIDs`, {
        subject: Config,
      });
    }
    const config = { mediaType: MEDIA_TYPE.config, digest: digestOf(bytes), size: bytes.length };
    files.set(config.digest, Config);
    const layers: Descriptor[] = [];
    for (const name of Layers) {
      let blob = blobs.get(name);
      if (!blob) {
        blob = await describeLayer(archive, name, options);
        blobs.set(name, blob);
        files.set(blob.digest, name);
      }
      layers.push(blob);
    }
    const manifest: ImageManifest = { schemaVersion: 2, mediaType: MEDIA_TYPE.manifest, config, layers };
    const text = Buffer.from(JSON.stringify(manifest));
    const { digest, size } = await layout.content.write([text]);
    const descriptor = { mediaType: MEDIA_TYPE.manifest, digest, size };
    const names = RepoTags.map((tag) => formatReference(parseReference(tag)));
    for (const name of names) descriptors.push({ ...descriptor, annotations: { [NAME.tag]: name } });
    if (names.length === 0) descriptors.push(descriptor);
  }
  return { descriptors, files };
}

/** The images of manifest.json, or nothing where it says other things. */
function savedImages(value: unknown): SavedImage[] | undefined {
  if (!Array.isArray(value) || value.length === 0) return undefined;
  if (value.length > 1000) throw new ImageError('tooLarge', 'more than 1000 images in one archive');
  const texts = (list: unknown): string[] | undefined => {
    if (list === null || list === undefined) return [];
    return Array.isArray(list) && list.every((text) => typeof text === 'string') ? list : undefined;
  };
  const images = value.map((entry: unknown): SavedImage | undefined => {
    if (typeof entry !== 'object' || entry === null) return undefined;
    const { Config, RepoTags, Layers } = entry as Record<string, unknown>;
    const [tags, layers] = [texts(RepoTags), texts(Layers)];
    return typeof Config === 'string' && tags && layers ? { Config, RepoTags: tags, Layers: layers } : undefined;
  });
  if (images.every((image) => image === undefined)) return undefined;
  if (!images.every((image) => image !== undefined)) {
    throw new ImageError('badDocument', 'manifest.json has an image without a config, or names that are no text');
  }
  return images as SavedImage[];
}

/** Digest and kind of a layer; it is hashed once more when it is copied. */
async function describeLayer(
  archive: ArchiveFile,
  name: string,
  { limits = {}, signal }: { limits?: ImageLimits | undefined; signal?: AbortSignal | undefined },
): Promise<Descriptor> {
  const size = archive.size(name);
  if (limits.blob !== undefined && size > limits.blob) {
    throw new ImageError('tooLarge', `a layer of ${size} bytes, ${limits.blob} are allowed`, { subject: name });
  }
  const hasher = new Hasher();
  let head: Buffer | undefined;
  for await (const bytes of archive.stream(name, { signal })) {
    head ??= bytes.subarray(0, 16);
    hasher.update(bytes);
  }
  const mediaType = layerType(detectCompression(head ?? Buffer.alloc(0)));
  return { mediaType, digest: hasher.digest(), size };
}
