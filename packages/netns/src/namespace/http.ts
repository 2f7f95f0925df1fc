import { Agent, type AgentOptions, type ClientRequestArgs, request } from 'node:http';
import { type RequestOptions, Agent as TlsAgent, request as tlsRequest } from 'node:https';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { invalid } from '@iso/sys';
import { familyOf } from '../ip/ip.js';
import type { Place } from './server.js';
import { connect } from './socket.js';

/**
 * An agent for `http.request` whose connections start inside.
 *
 * @param place - the namespace
 * @param options - as `http.Agent` takes them
 * @returns the agent
 */
export function agent(place: Place, options: AgentOptions = {}): Agent {
  const made = new Agent(options);
  Object.assign(made, { createConnection: (args: ClientRequestArgs) => connect(place, target(args, 80)) });
  return made;
}

/** The same for `https.request`. */
function tlsAgent(place: Place, options: AgentOptions = {}): TlsAgent {
  const made = new TlsAgent(options);
  Object.assign(made, {
    createConnection: (args: RequestOptions) => {
      const socket = connect(place, target(args, 443));
      // A TLS socket over another one connects once that has.
      return connectTls({ ...(args as ConnectionOptions), socket });
    },
  });
  return made;
}

/**
 * An HTTP request from inside, in the manner of `fetch`; redirects are returned, not followed.
 *
 * @param place - the namespace
 * @param input - the URL, its host an IP address
 * @param init - method, headers, body, signal, as `fetch` takes them
 * @returns the response, its body a stream
 * @throws `TypeError` for a host that is no address; the error of the connection
 */
export async function fetchFrom(place: Place, input: string | URL, init: RequestInit = {}): Promise<Response> {
  const ask = new Request(input, init);
  const url = new URL(ask.url);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw invalid(`not a URL of HTTP: ${url.href}`);
  const secure = url.protocol === 'https:';
  const connection = secure ? { agent: tlsAgent(place) } : { agent: agent(place) };
  const options = { ...connection, method: ask.method, headers: Object.fromEntries(ask.headers), signal: ask.signal };
  return new Promise((resolve, reject) => {
    const outgoing = (secure ? tlsRequest : request)(url, options, (message) => {
      const headers = new Headers();
      for (let i = 0; i < message.rawHeaders.length; i += 2)
        headers.append(message.rawHeaders[i] as string, message.rawHeaders[i + 1] as string);
      const status = message.statusCode as number;
      const empty = status === 204 || status === 205 || status === 304 || ask.method === 'HEAD';
      if (empty) message.resume();
      const body = empty ? null : (Readable.toWeb(message) as ReadableStream<Uint8Array>);
      resolve(new Response(body, { status, statusText: message.statusMessage ?? '', headers }));
    });
    outgoing.on('error', reject);
    if (ask.body) pipeline(Readable.fromWeb(ask.body as never), outgoing).catch(reject);
    else outgoing.end();
  });
}

function target(
  args: { host?: string | null | undefined; port?: string | number | null | undefined },
  port: number,
): { host: string; port: number } {
  const host = (args.host ?? '127.0.0.1').replace(/^\[(.*)\]$/, '$1');
  familyOf(host);
  return { host, port: Number(args.port ?? port) };
}
