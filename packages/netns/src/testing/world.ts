// A host with an uplink, and who talks to it.
import { once } from 'node:events';
import type { Server, Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { NetNS } from '../index.js';
import { BridgeNetwork, type BridgeNetworkOptions, type Network } from '../network/index.js';

/** What a client got: the address that the server saw, or how it failed. */
export function reach(from: NetNS, host: string, port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = from.connect({ host, port });
    const timer = setTimeout(() => {
      socket.destroy();
      resolve('timeout');
    }, 1500);
    socket.on('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      resolve(`${error.code}`);
    });
    text(socket).then(
      (answer) => {
        clearTimeout(timer);
        resolve(answer || 'closed');
      },
      () => {},
    );
  });
}

/** A host with an uplink, a machine outside that has a route to the network, two boxes. All are namespaces of the test's own. */
export class World {
  readonly host: NetNS = NetNS.create();
  readonly outside: NetNS = NetNS.create();
  readonly a: NetNS = NetNS.create();
  readonly b: NetNS = NetNS.create();
  readonly #networks: Network[] = [];
  readonly #servers: Server[] = [];

  constructor() {
    const { host, outside } = this;
    host.rtnl.links.create({ kind: 'veth', name: 'up0', up: true, peer: { name: 'eth0', netns: outside } });
    outside.rtnl.links.set('eth0', { up: true });
    for (const [ns, link, four, six] of [
      [host, 'up0', '192.0.2.1/24', '2001:db8::1/64'],
      [outside, 'eth0', '192.0.2.2/24', '2001:db8::2/64'],
    ] as const) {
      ns.rtnl.addresses.create({ link, address: four });
      ns.rtnl.addresses.create({ link, address: six, flags: ['nodad'] });
    }
    outside.rtnl.routes.create({ dst: '10.50.0.0/16', gateway: '192.0.2.1' });
    outside.rtnl.routes.create({ dst: 'fd00:50::/48', gateway: '2001:db8::1' });
  }

  network(options: Partial<BridgeNetworkOptions> = {}): BridgeNetwork {
    const network = BridgeNetwork.create({
      name: 'app',
      host: this.host,
      subnets: ['10.50.0.0/24', 'fd00:50::/64'],
      ...options,
    });
    this.#networks.push(network);
    return network;
  }

  /** Answers with the address that it sees. */
  serve(ns: NetNS, port: number, host?: string): void {
    const answer = (socket: Socket) => socket.end(`${socket.remoteAddress}`.replace('::ffff:', ''));
    this.#servers.push(ns.listen({ port, ...(host !== undefined && { host }) }, answer));
  }

  async close(): Promise<void> {
    for (const server of this.#servers) {
      const closed = once(server, 'close');
      server.close();
      await closed;
    }
    for (const network of this.#networks) network.close();
    for (const ns of [this.host, this.outside, this.a, this.b]) ns.close();
  }
}
