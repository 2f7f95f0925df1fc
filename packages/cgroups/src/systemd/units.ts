import { KernelError } from '@iso/sys';
import { CgroupError } from '../error.js';
import type { WaitOptions } from '../wait.js';
import { addressesOf, type Manager } from './address.js';
import { Bus } from './bus.js';
import type { Property } from './properties.js';
import type { Message } from './wire/message.js';
import type { Value, Variant } from './wire/value.js';

const CANCELED = 125;
const destination = 'org.freedesktop.systemd1';
const object = { destination, path: '/org/freedesktop/systemd1' };
const managerInterface = `${destination}.Manager`;

/** What a manager does with units, as org.freedesktop.systemd1(5) has it. */
export class Units implements AsyncDisposable {
  readonly #bus: Bus;
  readonly #options: WaitOptions;

  private constructor(bus: Bus, options: WaitOptions) {
    this.#bus = bus;
    this.#options = options;
  }

  /**
   * Connects to a manager.
   *
   * @throws UnsupportedError where there is none; KernelError where no socket answers
   */
  static async open(manager: Manager, options: WaitOptions): Promise<Units> {
    let refusal: unknown;
    for (const address of addressesOf(manager)) {
      try {
        return new Units(await Bus.open(address, options), options);
      } catch (error) {
        // Nobody listens there, or not for this user: the next one may.
        if (!KernelError.is(error, 'ECONNREFUSED', 'ENOENT', 'EACCES', 'EPERM')) throw error;
        refusal = error;
      }
    }
    throw refusal;
  }

  /** Starts a unit that exists as long as it runs, and waits until it does. */
  async startTransient(unit: string, properties: readonly Property[]): Promise<void> {
    await this.#job('StartTransientUnit', 'ssa(sv)a(sa(sv))', [unit, 'fail', properties as unknown as Value, []]);
  }

  /** Stops a unit, and waits until it is. */
  async stop(unit: string): Promise<void> {
    await this.#job('StopUnit', 'ss', [unit, 'replace']);
  }

  /** Changes properties of a unit that runs, until it is stopped. */
  async setProperties(unit: string, properties: readonly Property[]): Promise<void> {
    await this.#call('SetUnitProperties', 'sba(sv)', [unit, true, properties as unknown as Value]);
  }

  /** A property of a unit. */
  async property(unit: string, iface: string, name: string): Promise<Value> {
    const [path] = (await this.#call('GetUnit', 's', [unit])).body;
    const answer = await this.#bus.call(
      {
        destination,
        path: path as string,
        interface: 'org.freedesktop.DBus.Properties',
        member: 'Get',
        signature: 'ss',
        body: [`${destination}.${iface}`, name],
      },
      this.#options,
    );
    return (answer.body[0] as Variant).value;
  }

  /** Closes the connection. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#bus[Symbol.asyncDispose]();
  }

  async #call(member: string, signature = '', body: readonly Value[] = []): Promise<Message> {
    return this.#bus.call({ ...object, interface: managerInterface, member, signature, body }, this.#options);
  }

  /** The answer to a request is a job; a signal says how it went. */
  async #job(member: string, signature: string, body: readonly Value[]): Promise<void> {
    const ended = new Map<unknown, Message>();
    let wake: () => void = () => undefined;
    const listener = (signal: Message) => {
      if (signal.interface !== managerInterface || signal.member !== 'JobRemoved') return;
      ended.set(signal.body[1], signal);
      wake();
    };
    const rule = `type='signal',sender='${destination}',interface='${managerInterface}',member='JobRemoved'`;
    const unlisten = await this.#bus.listen(rule, listener, this.#options);
    try {
      if (!this.#bus.direct) await this.#call('Subscribe');
      const answer = await this.#call(member, signature, body);
      const [job] = answer.body;
      const told = new Promise<Message>((resolve) => {
        wake = () => {
          const signal = ended.get(job);
          // Anybody may send a signal: it is systemd's where it comes from where the answer came from.
          if (signal && signal.sender === answer.sender) resolve(signal);
        };
        wake();
      });
      const signal = await this.#bus.until(told, this.#options, `${member}: waiting for its job`);
      const result = signal.body[3];
      if (result !== 'done') {
        throw new CgroupError(CANCELED, {
          syscall: 'read',
          call: `${member}(${JSON.stringify(body[0])})`,
          reason: 'other',
          kernelMessage: `the job of systemd ended with: ${String(result)}`,
          hint: 'its log says more: journalctl',
        });
      }
    } finally {
      unlisten();
    }
  }
}
