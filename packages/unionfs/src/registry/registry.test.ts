// Against Debian's registry, and against one that lies. All on this machine's loopback.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ImageError } from '../content/error.js';
import { importImages } from '../image/import.js';
import { ImageLayout } from '../image/layout.js';
import { MEDIA_TYPE } from '../image/media-type.js';
import { blob, layoutFiles, type Sketched, sketchImage, tar } from '../testing/image.js';
import { parseChallenges } from './challenge.js';
import { dockerCredentials } from './credentials.js';
import { Registry } from './registry.js';
import { pullImage, pushImage } from './transfer.js';

let folder = '';
const at = (name: string) => join(folder, name);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-registry-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const open = (name: string) => ImageLayout.open(at(name), { create: true, durable: false });
async function bring(layout: ImageLayout, blobs: Map<string, Buffer>, descriptor: object, name: string) {
  async function* bytes() {
    yield tar(...layoutFiles(blobs, [descriptor]));
  }
  await importImages(layout, bytes(), { name });
}
async function why(work: Promise<unknown>): Promise<unknown> {
  try {
    await work;
  } catch (error) {
    return ImageError.is(error) ? error.reason : error;
  }
  return undefined;
}
const large = tar({ path: 'a', content: randomBytes(3_000_000) });
const small = tar({ path: 'b', content: 'small' });

const has = (tool: string) => spawnSync('sh', ['-c', `command -v ${tool}`]).status === 0;
const program = ['docker-registry', 'registry'].find(has);
const needs = program ? '' : ' [needs docker-registry]';

describe.skipIf(!program)(`Debian's registry${needs}`, { timeout: 60_000 }, () => {
  let child: ChildProcess;
  let host = '';
  let place = '';
  const credentials = () => ({ username: 'iso', password: 'secret' });

  beforeAll(async () => {
    place = mkdtempSync(join(tmpdir(), 'iso-docker-registry-'));
    const probe = createServer().listen(0, '127.0.0.1');
    await once(probe, 'listening');
    host = `127.0.0.1:${(probe.address() as AddressInfo).port}`;
    await new Promise((resolve) => probe.close(resolve));
    writeFileSync(join(place, 'htpasswd'), 'iso:$2b$04$ZZlrOQa115WcA/RQAjyOtOerpbJ2LlGCwyFtNJrvXWAt/C9Cinxa2\n');
    const config = {
      version: '0.1',
      log: { level: 'error', accesslog: { disabled: true } },
      storage: { filesystem: { rootdirectory: join(place, 'blobs') } },
      http: { addr: host },
      auth: { htpasswd: { realm: 'iso', path: join(place, 'htpasswd') } },
    };
    // JSON is YAML.
    writeFileSync(join(place, 'config.yml'), JSON.stringify(config));
    child = spawn(program as string, ['serve', join(place, 'config.yml')], { stdio: 'ignore' });
    for (let i = 0; i < 200; i++) {
      const answer = await fetch(`http://${host}/v2/`).catch(() => undefined);
      if (answer) break;
      await setTimeout(50);
    }
  }, 30_000);
  afterAll(async () => {
    const exited = once(child, 'exit');
    child.kill();
    await exited;
    rmSync(place, { recursive: true, force: true });
  });

  it('takes an image and gives it back, in one piece and in several', async () => {
    const image = sketchImage([large, small]);
    const [mine, theirs] = [await open('mine'), await open('theirs')];
    await bring(mine, image.blobs, image.descriptor, 'x');
    const seen = new Map<string, number>();
    const onProgress = ({ digest, bytes }: { digest: string; bytes: number }) => seen.set(digest, bytes);
    await pushImage(mine, `${host}/a/one:1`, { from: 'x', credentials, onProgress });
    for (const { digest, size } of [...image.layers, image.config]) expect(seen.get(digest)).toBe(size);
    await pushImage(mine, `${host}/b/pieces:1`, { from: 'x', credentials, chunkSize: 500_000 });
    for (const name of [`${host}/a/one:1`, `${host}/b/pieces:1`, `${host}/a/one@${image.descriptor.digest}`]) {
      const layout = await open(`theirs-${name.length}`);
      const pulled = await pullImage(layout, name, { credentials });
      expect(pulled).toMatchObject({ name, descriptor: image.descriptor });
      await (await layout.image(name)).verify();
    }
    const registry = new Registry(host, { credentials });
    const tags: string[] = [];
    for await (const tag of registry.tags('a/one')) tags.push(tag);
    expect(tags).toEqual(['1']);
    expect(await why(pullImage(theirs, `${host}/a/one:2`, { credentials }))).toBe('notFound');
    expect(await why(pullImage(theirs, `${host}/nothing:2`, { credentials }))).toBe('notFound');
  });

  it('takes blobs from another repository', async () => {
    const image = sketchImage([tar({ path: 'm', content: randomBytes(100_000) })]);
    const mine = await open('mine');
    await bring(mine, image.blobs, image.descriptor, 'x');
    await pushImage(mine, `${host}/from/here:1`, { from: 'x', credentials });
    const asked: string[] = [];
    const counting: typeof fetch = (input, init) => {
      asked.push(`${init?.method} ${String(input).replace(/.*\/v2/, '')}`);
      return fetch(input, init);
    };
    const mountFrom = ['from/here'];
    await pushImage(mine, `${host}/to/there:1`, { from: 'x', credentials, mountFrom, fetch: counting });
    expect(asked.filter((line) => /^(PATCH|PUT .*uploads)/.test(line))).toEqual([]);
    expect(asked.some((line) => line.includes('mount='))).toBe(true);
    await pullImage(await open('theirs'), `${host}/to/there:1`, { credentials });
  });

  it('has images of several platforms', async () => {
    const blobs = new Map<string, Buffer>();
    const of = (architecture: string) => {
      const image = sketchImage([small, tar({ path: architecture })], { config: { architecture } });
      for (const [digest, part] of image.blobs) blobs.set(digest, part);
      return { ...image.descriptor, platform: { os: 'linux', architecture } };
    };
    const index = blob(blobs, MEDIA_TYPE.index, { schemaVersion: 2, manifests: [of('amd64'), of('arm64')] });
    const mine = await open('mine');
    await bring(mine, blobs, index, 'many');
    await pushImage(mine, `${host}/many:1`, { from: 'many', credentials });
    const theirs = await open('theirs');
    const platform = { os: 'linux', architecture: 'arm64' };
    const { descriptor } = await pullImage(theirs, `${host}/many:1`, { credentials, platform });
    expect((await theirs.image(descriptor.digest)).platform).toEqual(platform);
    const all = await pullImage(theirs, `${host}/many:1`, { credentials, platform: 'all', name: 'all' });
    expect(all.descriptor.digest).toBe(index.digest);
    const missing = { os: 'linux', architecture: 's390x' };
    expect(await why(pullImage(theirs, `${host}/many:1`, { credentials, platform: missing }))).toBe('noPlatform');
  });

  it('wants to know who asks', async () => {
    const layout = await open('mine');
    expect(await why(pullImage(layout, `${host}/a/one:1`))).toBe('unauthorized');
    const wrong = () => ({ username: 'iso', password: 'wrong' });
    expect(await why(pullImage(layout, `${host}/a/one:1`, { credentials: wrong }))).toBe('unauthorized');
    const auth = Buffer.from('iso:secret').toString('base64');
    writeFileSync(at('config.json'), JSON.stringify({ auths: { [host]: { auth } } }));
    const found = await dockerCredentials(at('config.json'))(host, 'a/one');
    expect(found).toEqual({ username: 'iso', password: 'secret' });
    await pullImage(layout, `${host}/a/one:1`, { credentials: dockerCredentials(at('config.json')) });
  });

  it.skipIf(!has('skopeo'))(`is understood by skopeo${has('skopeo') ? '' : ' [needs skopeo]'}`, async () => {
    const image = sketchImage([large, small]);
    const mine = await open('mine');
    await bring(mine, image.blobs, image.descriptor, 'x');
    await pushImage(mine, `${host}/skopeo:1`, { from: 'x', credentials });
    const run = (...words: string[]) => {
      const options = ['--insecure-policy', 'copy', '-q', '--src-tls-verify=false', '--dest-tls-verify=false'];
      const creds = ['--src-creds=iso:secret', '--dest-creds=iso:secret'];
      const { status, stderr } = spawnSync('skopeo', [...options, ...creds, ...words], { encoding: 'utf8' });
      expect(stderr).toBe('');
      expect(status).toBe(0);
    };
    run(`docker://${host}/skopeo:1`, `oci:${at('skopeo')}:x`);
    expect((await (await ImageLayout.open(at('skopeo'))).find('x')).digest).toBe(image.descriptor.digest);
    // And as docker's own manifests are.
    run('--format=v2s2', `docker://${host}/skopeo:1`, `docker://${host}/skopeo:2`);
    const theirs = await open('theirs');
    const { descriptor } = await pullImage(theirs, `${host}/skopeo:2`, { credentials });
    expect(descriptor.mediaType).toBe('application/vnd.docker.distribution.manifest.v2+json');
    expect((await theirs.image(`${host}/skopeo:2`)).layers.map(({ diffId }) => diffId)).toEqual(image.diffIds);
  });
});

describe('a registry that lies', { timeout: 60_000 }, () => {
  type Answer = (request: IncomingMessage, response: ServerResponse, path: string) => void | Promise<void>;
  const servers: Server[] = [];
  const image: Sketched = sketchImage([large, small]);
  const layer = image.layers[0] as { digest: string; size: number };

  async function serve(answer: Answer): Promise<string> {
    const server = createServer((request, response) => {
      response.on('error', () => {});
      void (async () => answer(request, response, (request.url ?? '').replace(/^\/v2\/a\//, '')))();
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    servers.push(server);
    return `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }
  afterEach(async () => {
    for (const server of servers.splice(0)) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  });

  /** What an honest one would say. */
  const honest: Answer = (request, response, path) => {
    const digest = /(sha256:\w+)$/.exec(path)?.[1] ?? image.descriptor.digest;
    const bytes = image.blobs.get(digest);
    if (!bytes) return void response.writeHead(404).end();
    const type = path.startsWith('manifests/') ? MEDIA_TYPE.manifest : 'application/octet-stream';
    const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const range = from ? { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {};
    const body = bytes.subarray(from);
    response.writeHead(from ? 206 : 200, { 'content-type': type, 'content-length': body.length, ...range }).end(body);
  };
  const isLayer = (path: string) => path === `blobs/${layer.digest}`;
  const pull = async (host: string, options: object = {}) => {
    const layout = await ImageLayout.open(at('layout'), { create: true, durable: false });
    return pullImage(layout, `${host}/a:1`, { timeout: 2000, ...options });
  };

  /** Something comes again and again, and never the end. */
  const drip = (response: ServerResponse) => {
    response.write(' ');
    if (!response.destroyed) void setTimeout(20).then(() => drip(response));
  };

  const lies: [name: string, expected: string, answer: Answer, options?: object][] = [
    [
      'another manifest than its digest',
      'wrongDigest',
      (request, response, path) => {
        if (path !== 'manifests/1') return honest(request, response, path);
        const headers = { 'content-type': MEDIA_TYPE.manifest, 'docker-content-digest': `sha256:${'0'.repeat(64)}` };
        response.writeHead(200, headers).end(image.blobs.get(image.descriptor.digest));
      },
    ],
    [
      'a manifest without end',
      'tooLarge',
      (_, response) => {
        response.writeHead(200, { 'content-type': MEDIA_TYPE.manifest });
        const more = () => void (response.destroyed || response.write(Buffer.alloc(1 << 20, ' '), more));
        more();
      },
    ],
    [
      'a manifest that is no JSON',
      'badDocument',
      (_, response) => void response.writeHead(200, { 'content-type': MEDIA_TYPE.manifest }).end('<html>'),
    ],
    [
      'a page of a portal',
      'badDocument',
      (_, response) => void response.writeHead(200, { 'content-type': 'text/html' }).end('<html>'),
    ],
    [
      'a document of another kind',
      'unsupported',
      (_, response) => void response.writeHead(200, { 'content-type': 'text/html' }).end('{}'),
    ],
    [
      'a layer of other bytes',
      'wrongDigest',
      (request, response, path) => {
        if (!isLayer(path)) return honest(request, response, path);
        response.writeHead(200).end(Buffer.alloc(layer.size));
      },
    ],
    [
      'a layer without end',
      'wrongSize',
      (request, response, path) => {
        if (!isLayer(path)) return honest(request, response, path);
        response.writeHead(200);
        const more = () => void (response.destroyed || response.write(Buffer.alloc(1 << 20), more));
        more();
      },
    ],
    [
      'redirects without end',
      'protocol',
      (_, response, path) => void response.writeHead(307, { location: `/v2/a/${path}` }).end(),
    ],
    [
      'a redirect to a file',
      'protocol',
      (_, response) => void response.writeHead(307, { location: 'file:///etc/passwd' }).end(),
    ],
    [
      'a redirect to plain http',
      'denied',
      (_, response) => void response.writeHead(307, { location: 'http://192.0.2.1/' }).end(),
    ],
    [
      'a redirect to nowhere',
      'protocol',
      (_, response) => void response.writeHead(307, { location: 'http://[' }).end(),
    ],
    [
      '401, again and again',
      'unauthorized',
      (_, response) => void response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end(),
      { credentials: () => ({ username: 'a', password: 'b' }) },
    ],
    ['401, and does not say why', 'protocol', (_, response) => void response.writeHead(401).end()],
    [
      'tokens that do not help',
      'unauthorized',
      (request, response) => {
        if (request.url?.startsWith('/token')) return void response.end('{"token":"x"}');
        response
          .writeHead(401, { 'www-authenticate': `Bearer realm="http://${request.headers.host}/token",service="s"` })
          .end();
      },
    ],
    [
      'a token of an evil kind',
      'protocol',
      (request, response) => {
        if (request.url?.startsWith('/token')) return void response.end('{"token":"x\\r\\nevil: 1"}');
        response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${request.headers.host}/token"` }).end();
      },
    ],
    [
      'tokens by plain http elsewhere',
      'denied',
      (_, response) =>
        void response.writeHead(401, { 'www-authenticate': 'Bearer realm="http://192.0.2.1/token"' }).end(),
    ],
    [
      'a token without end',
      'tooLarge',
      (request, response) => {
        if (request.url?.startsWith('/token')) {
          const more = () => void (response.destroyed || response.write(Buffer.alloc(1 << 20, ' '), more));
          return more();
        }
        response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${request.headers.host}/token"` }).end();
      },
    ],
    [
      'no more than denied',
      'denied',
      (_, response) => void response.writeHead(403).end('{"errors":[{"code":"DENIED","message":"no"}]}'),
    ],
    ['always not now', 'network', (_, response) => void response.writeHead(503, { 'retry-after': '0' }).end()],
    [
      'a layer that always breaks off',
      'network',
      (request, response, path) => {
        if (!isLayer(path)) return honest(request, response, path);
        response.writeHead(200, { 'content-length': layer.size });
        response.write(Buffer.alloc(1000), () => response.destroy());
      },
    ],
    [
      'a part from another place',
      'protocol',
      (request, response, path) => {
        if (!isLayer(path)) return honest(request, response, path);
        if (request.headers.range) return void response.writeHead(206, { 'content-range': 'bytes 0-1/2' }).end('ab');
        response.writeHead(200, { 'content-length': layer.size });
        response.write(image.blobs.get(layer.digest)?.subarray(0, 1000), () => response.destroy());
      },
    ],
    [
      'two thirds of a layer, again and again',
      'network',
      (request, response, path) => {
        if (!isLayer(path)) return honest(request, response, path);
        if (request.headers.range) return void response.writeHead(416).end();
        response.writeHead(200, { 'content-length': layer.size });
        const part = image.blobs.get(layer.digest)?.subarray(0, 2 << 20);
        response.write(part, () => void setTimeout(50).then(() => response.destroy()));
      },
    ],
    ['a manifest that drips', 'network', (_, response) => drip(response.writeHead(200)), { timeout: 200 }],
    ['a refusal that drips', 'notFound', (_, response) => drip(response.writeHead(404)), { timeout: 200 }],
    ['nothing at all', 'network', () => {}, { timeout: 200 }],
    [
      'a layer that stops',
      'network',
      (request, response, path) => {
        if (!isLayer(path)) return honest(request, response, path);
        response.writeHead(200, { 'content-length': layer.size }).write('x');
      },
      { timeout: 100 },
    ],
  ];
  for (const [name, expected, answer, options] of lies) {
    it(name, async () => {
      const before = process.memoryUsage.rss();
      expect(await why(pull(await serve(answer), options))).toBe(expected);
      expect(process.memoryUsage.rss() - before).toBeLessThan(200 << 20);
      const layout = await ImageLayout.open(at('layout'));
      expect(await layout.list()).toEqual([]);
      await layout.gc();
      expect(existsSync(at('layout/.iso/partial')) ? readdirSync(at('layout/.iso/partial')) : []).toEqual([]);
    });
  }

  it('another manifest than a digest of sha512', async () => {
    const bytes = image.blobs.get(image.descriptor.digest) as Buffer;
    const sha512 = (of: Buffer) => `sha512:${createHash('sha512').update(of).digest('hex')}`;
    const headers: Record<string, string> = { 'content-type': MEDIA_TYPE.manifest };
    let asked = 0;
    const host = await serve((request, response, path) => {
      asked++;
      if (!path.startsWith('manifests/')) return honest(request, response, path);
      response.writeHead(200, headers).end(bytes);
    });
    const pullBy = async (reference: string, options: object = {}) =>
      pullImage(await open('by'), `${host}/a${reference}`, options);
    const wrong = sha512(Buffer.from('another'));
    expect(await why(pullBy(`@${wrong}`))).toBe('wrongDigest');
    expect(await why(pullBy(`@${wrong}`, { mirrors: [`http://${host}`] }))).toBe('wrongDigest');
    const { descriptor } = await pullBy(`@${sha512(bytes)}`);
    expect(descriptor.digest).toBe(sha512(bytes));
    await (await (await open('by')).image(descriptor)).verify();
    headers['docker-content-digest'] = wrong;
    expect(await why(pullBy(':1'))).toBe('wrongDigest');
    headers['docker-content-digest'] = sha512(bytes);
    expect((await pullBy(':1')).descriptor.digest).toBe(image.descriptor.digest);
    asked = 0;
    const registry = new Registry(host);
    expect(await why(registry.document('a', `sha384:${'0'.repeat(96)}`))).toBe('unsupported');
    expect(await why(registry.document('a', 'sha512:0'))).toBe('badName');
    expect(await why(pullBy(`@md5:${'0'.repeat(32)}`))).toBe('unsupported');
    expect(asked).toBe(0);
  });

  it('is one that cannot be reached', async () => {
    const host = await serve(() => {});
    await new Promise((resolve) => servers.pop()?.close(resolve));
    expect(await why(pull(host))).toBe('network');
    expect(await why(pullImage(await open('x'), 'iso.invalid/a:1'))).toBe('network');
    expect(await why(pullImage(await open('x'), `${host}/a:1`, { plainHttp: false }))).toBe('network');
    const mirrors = ['http://192.0.2.1:5000'];
    expect(await why(pullImage(await open('x'), `${host}/a:1`, { mirrors }))).toBe('denied');
  });

  it('gives up when it is told to', async () => {
    const reason = new Error('enough');
    const stop = new AbortController();
    const host = await serve((request, response, path) => {
      if (!isLayer(path)) return honest(request, response, path);
      response.writeHead(200, { 'content-length': layer.size }).write('x');
      stop.abort(reason);
    });
    expect(await why(pull(host, { signal: stop.signal }))).toBe(reason);
  });

  it('may break off: what is there does not come again', async () => {
    const ranges: string[] = [];
    let broken = 0;
    const host = await serve((request, response, path) => {
      if (!isLayer(path)) return honest(request, response, path);
      ranges.push(request.headers.range ?? 'all');
      if (++broken > 3) return honest(request, response, path);
      const bytes = image.blobs.get(layer.digest) as Buffer;
      const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      const range = from ? { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {};
      response.writeHead(from ? 206 : 200, { 'content-length': bytes.length - from, ...range });
      response.write(bytes.subarray(from, from + 500_000), () => void setTimeout(50).then(() => response.destroy()));
    });
    const { descriptor } = await pull(host);
    expect(descriptor.digest).toBe(image.descriptor.digest);
    expect(ranges[0]).toBe('all');
    expect(ranges.slice(1).every((range) => /^bytes=[1-9]\d*-$/.test(range))).toBe(true);
    expect(ranges).toHaveLength(4);
  });

  it('left a wrong part in an earlier process: it is found out, and comes again', async () => {
    const layout = await open('layout');
    {
      await using left = await layout.content.begin({ digest: layer.digest, size: layer.size });
      await left.write(Buffer.alloc(100_000, 'wrong'));
      left.keep();
    }
    await pull(await serve(honest));
    await (await layout.image(image.descriptor.digest)).verify();
  });

  it('gives a token, which is told to nobody else', async () => {
    const told: string[] = [];
    const elsewhere = await serve((request, response, path) => {
      told.push(request.headers.authorization ?? 'nothing');
      return honest(request, response, path);
    });
    let tokens = 0;
    const host = await serve((request, response, path) => {
      const url = new URL(request.url ?? '', 'http://x');
      if (url.pathname === '/token') {
        tokens++;
        expect(url.searchParams.getAll('scope')).toEqual(['repository:a:pull']);
        expect(request.headers.authorization).toBe(`Basic ${Buffer.from('me:pass').toString('base64')}`);
        return void response.end(JSON.stringify({ access_token: 'good', expires_in: 60 }));
      }
      if (request.headers.authorization !== 'Bearer good') {
        const realm = `Bearer realm="http://${request.headers.host}/token",service="s",scope="repository:a:pull"`;
        return void response.writeHead(401, { 'www-authenticate': realm }).end();
      }
      if (path.startsWith('blobs/')) {
        return void response.writeHead(307, { location: `http://${elsewhere}/v2/a/${path}` }).end();
      }
      return honest(request, response, path);
    });
    await pull(host, { credentials: () => ({ username: 'me', password: 'pass' }) });
    expect(told).toEqual(['nothing', 'nothing', 'nothing']);
    expect(tokens).toBe(1);
  });

  it('is asked when a mirror cannot, or lies', async () => {
    const asked: string[] = [];
    const mirror = await serve((request, response, path) => {
      asked.push(path);
      if (isLayer(path)) return void response.writeHead(200).end(Buffer.alloc(layer.size));
      return honest(request, response, path);
    });
    const dead = await serve((_, response) => void response.writeHead(404).end());
    const real: string[] = [];
    const host = await serve((request, response, path) => {
      real.push(path);
      return honest(request, response, path);
    });
    await pull(host, { mirrors: [`http://${dead}`, `http://${mirror}/`] });
    expect(asked).toContain('manifests/1');
    expect(real).toEqual([`blobs/${layer.digest}`]);
  });

  it.each([0, -1, 0.5, 70_000.5, Number.NaN, Number.POSITIVE_INFINITY, '70000'])(
    'is sent no pieces of %j bytes',
    async (size) => {
      const refused = expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' });
      const chunkSize = size as number;
      await expect(pushImage(await open('layout'), 'localhost:1/a:1', { chunkSize })).rejects.toThrow(refused);
    },
  );

  it('sends an upload elsewhere', async () => {
    const host = await serve((request, response) => {
      if (request.method === 'HEAD') response.writeHead(404).end();
      else response.writeHead(202, { location: 'http://192.0.2.1/upload' }).end();
    });
    const layout = await open('layout');
    await bring(layout, image.blobs, image.descriptor, 'x');
    expect(await why(pushImage(layout, `${host}/a:1`, { from: 'x' }))).toBe('protocol');
  });
});

describe('credentials of docker', () => {
  const of = (config: unknown) => {
    mkdirSync(at('docker'), { recursive: true });
    writeFileSync(at('docker/config.json'), typeof config === 'string' ? config : JSON.stringify(config));
    return dockerCredentials(at('docker/config.json'));
  };
  const auth = Buffer.from('me:pass:word').toString('base64');
  const found = { username: 'me', password: 'pass:word' };

  it('stand under several names', async () => {
    expect(await of({ auths: { 'https://index.docker.io/v1/': { auth } } })('docker.io', 'library/a')).toEqual(found);
    expect(await of({ auths: { 'quay.io/b': { auth } } })('quay.io', 'b/c')).toEqual(found);
    expect(await of({ auths: { 'quay.io/b': { auth } } })('quay.io', 'bc')).toBeUndefined();
    expect(await of({ auths: { a: { identitytoken: 't' } } })('a', 'b')).toEqual({ identityToken: 't' });
    expect(await of({})('a', 'b')).toBeUndefined();
    expect(await of({ auths: {} })('__proto__', 'constructor')).toBeUndefined();
    expect(await dockerCredentials(at('nothing'))('a', 'b')).toBeUndefined();
    for (const bad of ['{', '[]x', { auths: { a: 1 } }, { auths: { a: { auth: 'bWU=' } } }, { credsStore: '../x' }]) {
      expect(await why(Promise.resolve(of(bad)('a', 'b')))).toBe('badDocument');
    }
  });

  it('come from a program', async () => {
    const script = '#!/bin/sh\nread host; [ "$1 $host" = "get a.b" ] || { echo credentials not found; exit 1; }\n';
    writeFileSync(at('docker-credential-test'), `${script}echo '{"Username":"me","Secret":"pass:word"}'\n`);
    chmodSync(at('docker-credential-test'), 0o755);
    const path = process.env.PATH;
    process.env.PATH = `${folder}:${path}`;
    try {
      expect(await of({ credsStore: 'test' })('a.b', 'c')).toEqual(found);
      expect(await of({ credsStore: 'test' })('other', 'c')).toBeUndefined();
      expect(await of({ credHelpers: { 'a.b': 'test' } })('a.b', 'c')).toEqual(found);
      expect(await why(Promise.resolve(of({ credsStore: 'none' })('a.b', 'c')))).toBe('unauthorized');
    } finally {
      process.env.PATH = path;
    }
  });

  it('are asked for in words that are taken apart', () => {
    const [bearer, basic] = parseChallenges(
      'Bearer realm="https://a/t?x=\\"1",service=s , scope="a b,c", Basic realm="r"',
    );
    expect(bearer?.scheme).toBe('bearer');
    expect(Object.fromEntries(bearer?.parameters ?? [])).toEqual({
      realm: 'https://a/t?x="1',
      service: 's',
      scope: 'a b,c',
    });
    expect(basic?.scheme).toBe('basic');
    for (const odd of ['', ',', '=', '"', 'Bearer', 'Bearer realm', 'Bearer realm="', 'a'.repeat(100_000)]) {
      expect(() => parseChallenges(odd)).not.toThrow();
    }
  });
});
