import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { Fd, O } from '@iso/sys';
import { decompress } from '../compression/compression.js';
import { ImageError } from '../content/error.js';
import { check, procPath, tryOpenInRoot } from '../file/call.js';
import type { NewLayer } from '../image/compose.js';
import type { ImageLayer } from '../image/image.js';
import { Extractor } from '../layer/extract.js';
import { TarParser } from '../tar/parser.js';
import { openArchive } from './archive.js';
import { type Built, chainOf } from './built.js';
import { StepCache } from './cache.js';
import { pathOf } from './configure.js';
import { addressName, type FetchedFile, isAddress } from './fetched.js';
import type { LayerMaker } from './layer.js';
import { findOwner, type Owner } from './owner.js';
import { ignorePatterns } from './pattern.js';
import {
  type Destination,
  type LooseFile,
  makeDirectory,
  type PlaceSettings,
  placeFiles,
  placeSources,
} from './place.js';
import { findSources, findWithParents, fingerprint, type Source, type SourceRoot } from './source.js';
import type { AddStep, CopyStep, InlineFile } from './step.js';

/** What {@link transfer} works with. */
export interface TransferTools {
  context: SourceRoot | undefined;
  /** Layers that it copies from; undefined for the context. */
  source: readonly ImageLayer[] | undefined;
  maker: LayerMaker;
  /** Fetches what an address names. */
  fetchFile(address: string, checksum: string | undefined): Promise<FetchedFile>;
  /** Does it, unless it was done before by one of its names. */
  once(keys: readonly string[], make: () => Promise<NewLayer | undefined>): Promise<Built>;
}

const ROOT: Owner = { uid: 0, gid: 0 };
const LIMITS = { entries: 10_000_000, bytes: 2 ** 40 };

/** The steps `copy` and `add`. */
export async function transfer(step: CopyStep | AddStep, built: Built, tools: TransferTools): Promise<Built> {
  const { source, maker, once } = tools;
  const unpacks = 'add' in step;
  const asked = unpacks ? step.add : step.copy;
  const words = asked.filter((each): each is string => typeof each === 'string');
  const files = asked.filter((each): each is InlineFile => typeof each !== 'string');
  const addresses = unpacks ? words.filter(isAddress) : [];
  const paths = words.filter((each) => !addresses.includes(each));
  const repository =
    unpacks && words.find((word) => /^([a-z]+:\/\/.*\.git(#.*)?$|(?!https?:)[a-z]+:\/\/|git@)/i.test(word));
  if (repository) {
    throw new ImageError('unsupported', `no repository is fetched: ${repository}`, { hint: 'clone it in a RUN' });
  }
  const checksum = unpacks ? step.checksum : undefined;
  if (checksum !== undefined && (addresses.length !== 1 || asked.length !== 1)) {
    throw new ImageError('badStep', 'a checksum is that of one address, and of nothing else');
  }
  const slash = /(^|\/)\.?$/.test(step.to);
  if (asked.length > 1 && !slash) {
    throw new ImageError(
      'badStep',
      `several sources need a directory that ends in "/", not ${JSON.stringify(step.to)}`,
    );
  }
  const to: Destination = { path: pathOf(built.stage.run, step.to), directory: slash };
  const owner = step.chown ?? (source ? 'kept' : 'root');
  const contents = files.map(({ name, content }) => [name, createHash('sha256').update(content).digest('hex')]);
  const parents = 'parents' in step && step.parents === true;
  const { exclude = [] } = step;
  const fetched = (digests: readonly string[]) => addresses.map((address, i) => [address, digests[i]]);
  const what = { on: chainOf(built), to, owner, mode: step.chmod, unpacks, files: contents, parents, exclude };
  if (checksum !== undefined) {
    const known = await attempt(StepCache.key({ ...what, fetched: fetched([checksum]), hash: undefined }));
    if (known) return known;
  }
  await using remote = await fetchAll(addresses, (address) => tools.fetchFile(address, checksum));
  const { files: arrived } = remote;
  const same = { ...what, ...(arrived.length ? { fetched: fetched(arrived.map(({ digest }) => digest)) } : {}) };
  // From layers that are the same: their files need not be looked at.
  const quick = source && StepCache.key({ ...same, from: source.at(-1)?.chainId, paths });
  let done: Built | undefined;
  if (quick !== undefined) done = await attempt(quick);
  if (done) return done;
  using mount = source && paths.length ? await maker.open(source) : undefined;
  const tree = source ? mount && { fd: mount.fd.number } : tools.context;
  const root = tree && { ...tree, excluded: exclude.length ? ignorePatterns(exclude) : undefined };
  const sources = root ? found(root, paths, parents) : [];
  if (!root && paths.length) {
    throw new ImageError('badStep', source ? 'there are no files in what it copies from' : 'the build has no context');
  }
  const hash = root && fingerprint(root, sources, { owners: owner === 'kept' });
  const keys = [StepCache.key({ ...same, hash }), ...(quick === undefined ? [] : [quick])];
  return await once(keys, () =>
    maker.make(built.layers, async (target) => {
      const settings: PlaceSettings = {
        owner: step.chown === undefined ? (source ? undefined : ROOT) : findOwner(target.number, step.chown),
        mode: step.chmod,
      };
      const rest = unpacks && root ? await unpackArchives(target, root, sources, to, settings) : sources;
      if (root && rest.length) placeSources(target, root, rest, to, settings);
      if (files.length) placeFiles(target, files.map(inline), to, settings);
      if (arrived.length) placeFiles(target, arrived.map(remoteFile), to, settings);
      return true;
    }),
  );

  function remoteFile({ fd, size, mtime }: FetchedFile, i: number): LooseFile {
    return { name: () => addressName(addresses[i] as string), content: fd, size, mode: 0o600, mtime };
  }

  /** Whether it is known by this name alone. */
  async function attempt(key: string): Promise<Built | undefined> {
    const missing = new Error();
    try {
      return await once([key], () => Promise.reject(missing));
    } catch (error) {
      if (error === missing) return undefined;
      throw error;
    }
  }
}

/** Fetches one after the other; disposing it closes what has come. */
async function fetchAll(
  addresses: readonly string[],
  fetch: (address: string) => Promise<FetchedFile>,
): Promise<AsyncDisposable & { files: readonly FetchedFile[] }> {
  const files: FetchedFile[] = [];
  const close = async () => {
    for (const file of files) await file[Symbol.asyncDispose]();
  };
  try {
    for (const address of addresses) files.push(await fetch(address));
  } catch (error) {
    await close();
    throw error;
  }
  return { files, [Symbol.asyncDispose]: close };
}

/** A file whose content the step has: at the time of now. */
function inline({ name, content }: InlineFile): LooseFile {
  const bytes = Buffer.from(content as Uint8Array);
  return {
    name: () => name,
    content: bytes,
    size: bytes.length,
    mode: 0o644,
    mtime: BigInt(Date.now()) * 1_000_000n,
  };
}

function found(root: SourceRoot, paths: readonly string[], parents: boolean): Source[] {
  if (parents && paths.length) return findWithParents(root, paths);
  return paths.flatMap((path) => {
    const sources = findSources(root, path);
    if (sources.length === 0) throw new ImageError('badStep', `nothing matches ${JSON.stringify(path)}`);
    return sources.filter(({ stat, name }) => stat.type === 'directory' || !root.excluded?.ignored(String(name)));
  });
}

/** Unpacks what is an archive; returns what is none. */
async function unpackArchives(
  target: Fd,
  root: SourceRoot,
  sources: readonly Source[],
  to: Destination,
  settings: PlaceSettings,
): Promise<Source[]> {
  const rest: Source[] = [];
  for (const source of sources) {
    using file = await openArchive(root, source);
    if (!file) {
      rest.push(source);
      continue;
    }
    const at = makeDirectory(target, to.path, settings.owner).real;
    using directory = Fd.own(check(tryOpenInRoot(target.number, at, O.RDONLY | O.DIRECTORY), 'openat2', at));
    await unpackInto(directory, file, settings);
  }
  return rest;
}

async function unpackInto(directory: Fd, file: Fd, { owner, mode }: PlaceSettings): Promise<void> {
  using extractor = new Extractor(directory, { owner: 'archive' }, () => {});
  // Whose the files in an archive are it says itself, unless the step does.
  const own = owner === ROOT ? undefined : owner;
  const parser = new TarParser(
    {
      entry: (entry) =>
        extractor.entry({ ...entry, ...own, ...(mode === undefined || entry.type === 'symlink' ? {} : { mode }) }),
      data: (bytes, offset) => extractor.data(bytes, offset),
      end: () => extractor.end(),
    },
    LIMITS,
  );
  const stream = createReadStream(procPath(file.number), { highWaterMark: 512 * 1024 });
  for await (const chunk of decompress(stream)) parser.write(chunk as Buffer);
  parser.finish();
  extractor.finish();
}
