import { once } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { importSource } from '../../../../test/typescript.js';
import { NetNS } from '../index.js';
import { home, inside, root } from '../testing/judge.js';

const url = (path: string) => pathToFileURL(`${home}${path}`).href;

/** Of each thread of this process. */
const threads = () =>
  new Set(
    readdirSync('/proc/self/task').flatMap((thread) => {
      try {
        return [readlinkSync(`/proc/self/task/${thread}/ns/net`)];
      } catch {
        return [];
      }
    }),
  );

describe.skipIf(!root)('a worker whose sockets are inside [needs root]', () => {
  it('gets the namespace by the number of its descriptor; no thread enters it', async () => {
    using lab = NetNS.create();
    const script = `${importSource(url('packages/netns/src/index.ts'))}.then(async ({ NetNS }) => {
      const { Fd } = await import('${url('packages/sys/src/index.ts')}');
      const { parentPort, workerData } = await import('node:worker_threads');
      const { createServer, request } = await import('node:http');
      const lab = NetNS.open({ fd: Fd.borrow(workerData) });
      const web = createServer((message, response) => response.end('from the worker'));
      const server = lab.listen({ host: '127.0.0.1', port: 80 }, (socket) => web.emit('connection', socket));
      server.once('listening', () => {
        const agent = lab.agent();
        request({ host: '127.0.0.1', port: 80, agent }, async (response) => {
          let text = '';
          for await (const chunk of response) text += chunk;
          const fetched = await (await lab.fetch('http://127.0.0.1/')).text();
          parentPort.postMessage([text, fetched]);
        }).end();
      });
      parentPort.once('message', () => {
        web.closeAllConnections();
        server.close(() => {
          lab.close();
          parentPort.close();
        });
      });
    });`;
    const worker = new Worker(script, { eval: true, execArgv: ['--conditions=iso-source'], workerData: lab.fd.number });
    try {
      expect((await once(worker, 'message'))[0]).toEqual(['from the worker', 'from the worker']);
      expect(inside(lab, 'ss -Hltn')).toContain('127.0.0.1:80 ');
      expect(threads()).toEqual(new Set([readlinkSync('/proc/self/ns/net')]));
      expect(await (await lab.fetch('http://127.0.0.1/')).text()).toBe('from the worker');
      const ended = once(worker, 'exit');
      worker.postMessage('end');
      expect(await ended).toEqual([0]);
      expect(inside(lab, 'ss -Hltn')).toBe('');
    } finally {
      await worker.terminate();
    }
  }, 30_000);
});
