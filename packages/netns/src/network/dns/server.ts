import type { Socket as DatagramSocket } from 'node:dgram';
import { once } from 'node:events';
import type { Server, Socket } from 'node:net';
import { debuglog } from 'node:util';
import { familyOf, ipBytes, ipText } from '../../ip/ip.js';
import type { NetNS } from '../../namespace/netns.js';
import { listenAsync } from '../../namespace/server.js';
import { connectAsync, datagramAsync } from '../../namespace/socket.js';
import type { Network } from '../network.js';
import { resolvText } from '../resolv-file.js';
import { givenAddresses } from './addresses.js';
import { type Answer, answers, type Query, RCODE, readQuery, reverseAddress, TYPE, writeAnswer } from './message.js';
import type { NamePolicy } from './policy.js';

/** What a name server knows, and whom it asks. */
export interface NameServerOptions {
  /** Where it listens. */
  netns: NetNS;
  /** Whose endpoints' names it knows: as they are when it is asked. */
  networks: readonly Pick<Network, 'members' | 'internal'>[];
  /** Names and addresses besides: `{ 'host.internal': ['10.50.0.1'] }`. */
  hosts?: Readonly<Record<string, readonly string[]>>;
  /** Where it sends what it does not know: the namespace, and addresses of servers there; default nowhere. */
  forward?: { from: NetNS; servers: readonly string[] };
  /**
   * Lists of what may be reached, of endpoints that ask here: names that none of them permits are unknown, and not passed on, so that
   * nothing leaves in questions; addresses in answers are let through before who asked has them.
   */
  egress?: readonly NamePolicy[];
  /** Default `127.0.0.11`, as Docker has it. */
  address?: string;
  port?: number;
}

const ADDRESS = '127.0.0.11';
const PORT = 53;
const IN_FLIGHT = 1024;
const TIMEOUT = 4000;
const IDLE = 10_000;
const CONNECTIONS = 64;
const TCP_SIZE = 65535;
const debug = debuglog('iso');

/**
 * A name server inside of a namespace, in this process: it answers for the endpoints of networks by their names, in both directions, and
 * passes other questions on, from another namespace. Point `/etc/resolv.conf` inside to it: {@link NameServer.resolvConf}.
 *
 * @example
 * ```ts root
 * import { NetNS } from '@iso/netns';
 * import { BridgeNetwork, NameServer } from '@iso/netns/network';
 * using host = NetNS.create();
 * using box = NetNS.create();
 * using network = BridgeNetwork.create({ name: 'app', host, subnets: ['10.50.0.0/24'] });
 * await network.attach(box, { names: ['web'] });
 * await using names = await NameServer.start({ netns: box, networks: [network] });
 * if (!names.resolvConf().includes('nameserver 127.0.0.11')) throw new Error('not for resolv.conf');
 * ```
 */
export class NameServer implements AsyncDisposable {
  readonly address: string;
  readonly #options: NameServerOptions;
  readonly #datagrams: DatagramSocket;
  readonly #streams: Server;
  readonly #connections = new Set<Socket>();
  #inFlight = 0;
  #closed: Promise<void> | undefined;

  private constructor(options: NameServerOptions, address: string, datagrams: DatagramSocket, streams: Server) {
    this.#options = options;
    this.address = address;
    this.#datagrams = datagrams;
    this.#streams = streams;
    streams.maxConnections = CONNECTIONS;
    streams.on('connection', (socket) => this.#serve(socket));
    this.#datagrams.on('message', (bytes, peer) => {
      const send = (answer: Buffer) => {
        // One who asks and leaves is no reason to stop.
        if (!this.#closed) this.#datagrams.send(answer, peer.port, peer.address, () => {});
      };
      this.#ask(bytes, 'udp', send);
    });
    this.#datagrams.on('error', (error) => debug('name server: %s', error.message));
  }

  /**
   * Starts a name server.
   *
   * @param options - where, what it knows, whom it asks
   * @returns it, listening
   * @throws KernelError `EADDRINUSE` where the namespace has one; `TypeError` for servers that are no addresses
   */
  static async start(options: NameServerOptions): Promise<NameServer> {
    for (const server of options.forward?.servers ?? []) familyOf(server);
    const { netns, address = ADDRESS, port = PORT } = options;
    const place = { host: address, port };
    const datagrams = await datagramAsync(netns, place);
    const streams = await listenAsync(netns, place).catch((error) => {
      datagrams.close();
      throw error;
    });
    const server = new NameServer(options, address, datagrams, streams);
    if (!streams.listening) await once(streams, 'listening');
    return server;
  }

  /**
   * The text of a resolv.conf(5) that leads here.
   *
   * @param options - domains to search, further options such as `ndots:0`
   * @returns for a file inside
   */
  resolvConf(options: { search?: readonly string[]; options?: readonly string[] } = {}): string {
    return resolvText({ servers: [this.address], ...options });
  }

  #serve(socket: Socket): void {
    this.#connections.add(socket);
    socket.setTimeout(IDLE, () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#connections.delete(socket));
    let rest: Buffer = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      rest = Buffer.concat([rest, chunk]);
      // Several questions may come at once, and in pieces.
      while (rest.length >= 2 && rest.length >= 2 + rest.readUInt16BE(0)) {
        const length = rest.readUInt16BE(0);
        const question = Buffer.from(rest.subarray(2, 2 + length));
        rest = rest.subarray(2 + length);
        this.#ask(question, 'tcp', (answer) => {
          if (!socket.destroyed) socket.write(framed(answer));
        });
      }
    });
  }

  #ask(bytes: Buffer, transport: 'udp' | 'tcp', send: (answer: Buffer) => void): void {
    const query = readQuery(bytes);
    // What is no question gets no answer: two servers could otherwise talk for ever.
    if (!query) return;
    const size = transport === 'udp' ? query.size : TCP_SIZE;
    const reply = (code: number, records: readonly Answer[] = []) =>
      send(writeAnswer(bytes, query, code, records, size));
    if (!query.plain) return reply(RCODE.NOTIMP);
    const known = this.#known(query);
    if (known) return reply(RCODE.NOERROR, known);
    const { forward, networks } = this.#options;
    // A box in nothing but internal networks has no way out, by questions neither.
    const server =
      networks.every((network) => network.internal) && networks.length > 0 ? undefined : forward?.servers[0];
    if (!forward || server === undefined) return reply(RCODE.NXDOMAIN);
    const policies = this.#options.egress?.filter((policy) => policy.permits(query.name));
    if (policies?.length === 0) {
      for (const policy of this.#options.egress ?? []) policy.refused(query.name);
      return reply(RCODE.NXDOMAIN);
    }
    if (this.#inFlight >= IN_FLIGHT) return reply(RCODE.SERVFAIL);
    this.#inFlight += 1;
    this.#forward(bytes, query, transport, forward.from, forward.servers)
      .then(async (answer) => {
        // What is kept back here comes again, when it is asked for by TCP.
        if (transport === 'udp' && answer.length > size)
          return send(writeAnswer(bytes, query, RCODE.NOERROR, filler, 0));
        if (policies?.length) {
          const given = givenAddresses(answer, query.name, query.end);
          await Promise.all(policies.map((policy) => policy.answered(query.name, given)));
        }
        send(answer);
      })
      .catch((error: Error) => {
        debug('name server: %s: %s', query.name, error.message);
        reply(RCODE.SERVFAIL);
      })
      .finally(() => {
        this.#inFlight -= 1;
      });
  }

  /** Records of a name that is known; none where it has none of that type. */
  #known({ name, type }: Query): Answer[] | undefined {
    const asked = reverseAddress(name);
    if (asked !== undefined) {
      if (type !== TYPE.PTR) return undefined;
      const address = ipText(ipBytes(asked));
      const owner = this.#members().find(({ ip, ip6 }) => ip === address || ip6 === address);
      const [own] = owner?.names ?? [];
      return own === undefined ? undefined : [{ type: TYPE.PTR, name: own }];
    }
    const hosts = this.#options.hosts ?? {};
    const listed = Object.entries(hosts).filter(([host]) => host.toLowerCase() === name);
    const owners = this.#members().filter((member) => member.names.some((own) => own.toLowerCase() === name));
    if (listed.length === 0 && owners.length === 0) return undefined;
    const addresses = [...listed.flatMap(([, list]) => list), ...owners.flatMap(({ ip, ip6 }) => [ip, ip6])];
    return addresses
      .filter((address) => address !== undefined)
      .map((address): Answer => ({ type: familyOf(address) === 4 ? TYPE.A : TYPE.AAAA, address }))
      .filter((answer) => answer.type === type || type === TYPE.ANY);
  }

  #members() {
    return this.#options.networks.flatMap((network) => network.members);
  }

  /** Asks one server after the other. */
  async #forward(
    bytes: Buffer,
    query: Query,
    transport: 'udp' | 'tcp',
    from: NetNS,
    servers: readonly string[],
  ): Promise<Buffer> {
    for (const [i, server] of servers.entries()) {
      try {
        const asked =
          transport === 'udp'
            ? await askDatagram(from, server, bytes, query)
            : await askStream(from, server, bytes, query);
        return asked;
      } catch (error) {
        if (i === servers.length - 1) throw error;
      }
    }
    throw new Error('nobody to ask');
  }

  /** Ends it. Again does nothing. */
  close(): Promise<void> {
    this.#closed ??= (async () => {
      const closed = [once(this.#streams, 'close'), once(this.#datagrams, 'close')];
      this.#streams.close();
      this.#datagrams.close();
      for (const connection of this.#connections) connection.destroy();
      await Promise.all(closed);
    })();
    return this.#closed;
  }

  /** The same as {@link NameServer.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Something that does not fit, so that the answer says that it was cut. */
const filler: readonly Answer[] = [{ type: TYPE.A, address: '0.0.0.0' }];

function framed(bytes: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

/** A socket of its own for each question: its port is one more thing that a forger does not know. */
async function askDatagram(from: NetNS, server: string, bytes: Buffer, query: Query): Promise<Buffer> {
  const socket = await datagramAsync(from, { host: familyOf(server) === 4 ? '0.0.0.0' : '::' });
  const signal = AbortSignal.timeout(TIMEOUT);
  return new Promise<Buffer>((resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason));
    socket.on('error', reject);
    socket.on('message', (answer) => {
      if (answers(answer, bytes, query.end)) resolve(answer);
    });
    // Connected, it takes nobody else's datagrams, and is told at once where nobody listens.
    socket.connect(PORT, server, (error?: Error) => {
      if (error) reject(error);
      else socket.send(bytes, (refusal) => refusal && reject(refusal));
    });
  }).finally(() => socket.close());
}

async function askStream(from: NetNS, server: string, bytes: Buffer, query: Query): Promise<Buffer> {
  const socket = await connectAsync(from, { host: server, port: PORT, signal: AbortSignal.timeout(TIMEOUT) });
  return new Promise<Buffer>((resolve, reject) => {
    let got: Buffer = Buffer.alloc(0);
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('the server hung up')));
    socket.on('data', (chunk: Buffer) => {
      got = Buffer.concat([got, chunk]);
      if (got.length < 2 || got.length < 2 + got.readUInt16BE(0)) return;
      const answer = got.subarray(2, 2 + got.readUInt16BE(0));
      if (answers(answer, bytes, query.end)) resolve(answer);
      else reject(new Error('an answer to another question'));
    });
    socket.write(framed(bytes));
  }).finally(() => socket.destroy());
}
