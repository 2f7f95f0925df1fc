import {
  attempt,
  CLONE,
  Fd,
  invalid,
  type Launched,
  LaunchProgram,
  launch,
  launchAsync,
  O,
  type Part,
  reap,
} from '@iso/sys';
import { type Attributes, applyAttributes, applyLateAttributes } from './attributes.js';
import { Child } from './child.js';
import { ConsoleSocket, openConsole } from './console.js';
import { layOut } from './descriptors.js';
import { changeDirectory, execute, executeBehind, hintsFor } from './executable.js';
import { openGate, openImage } from './image/image.js';
import { OpenGate } from './image/opening.js';
import { replaceNull } from './null.js';
import { Pty, type TerminalSize } from './pty.js';
import { attributesOf, TTY } from './raw/termios.js';
import { resetSignals, signalNumber } from './signal.js';
import { openStdio, type Stdio, stdioItems } from './stdio.js';

/** Options of {@link spawn}: those of Node's `spawn` where it has them. */
export interface SpawnOptions extends Attributes {
  /** Working directory, as the child sees it. */
  cwd?: string;
  /** Environment; default is this process's, under a root of its own only what is given. */
  env?: Readonly<Record<string, string | undefined>>;
  /** What the program sees as its name; default is the file. */
  argv0?: string;
  /** The child's descriptors, default `'pipe'`. Nothing else is open in it. Output that nobody has begun to read at its exit is dropped. */
  stdio?: Stdio;
  /** Size of the terminal where `stdio` asks for a `pty`, or of the `console`. */
  terminal?: TerminalSize;
  /**
   * A connected Unix socket: a terminal of the child's own devpts, in a root of its own, becomes its first three descriptors and
   * /dev/console, and its master is sent there (SCM_RIGHTS). Unlike a `pty`, it has a name inside. `pty`: this process takes the
   * master itself, and the child's `stdin`, `stdout` and `terminal` are as with `stdio: 'pty'`.
   */
  console?: Fd | number | 'pty';
  /** What confines it: parts from the other packages. */
  confine?: readonly Part[];
  /**
   * Puts a small init over it in its new pid namespace: that reaps orphans, passes signals on, and ends as it ended, by its
   * exit code or 128 + the signal. Without it the program itself is process 1, to which most signals do nothing.
   */
  init?: boolean;
  /**
   * Holds it back: everything is set up, and the program is executed once somebody has written a byte to this pipe or FIFO, which is
   * open for reading and writing, so that its end never comes. Until then a few hundred bytes of machine code wait, and outlive
   * this process, which may hand the writing on to another. The program is looked for at once; where it cannot be executed
   * after all, the child ends with 127, or 126. A filter of system calls must let it `read`, `fcntl` and `execve`.
   *
   * `open` holds nothing back, and what cannot be executed is an error as ever. But what executes the program then is the gate's
   * machine code in a sealed memory file, not this process's own executable: under a root that may be hostile, a script with the
   * first line `#!/proc/self/exe` gets nothing that matters (CVE-2019-5736). It costs one execve more.
   */
  gate?: Fd | number | 'open';
  /** Kills it when aborted; listeners of 'error' get an AbortError then. */
  signal?: AbortSignal;
  /**
   * Kills it after so many milliseconds, and sets `timedOut` of its exit; behind an `open` gate, and in a frozen cgroup, a start
   * takes no longer either: that is a `TimeoutError`.
   */
  timeout?: number;
  /**
   * What `signal` and `timeout` kill with. SIGKILL follows five seconds later where it goes on. The default is SIGTERM, and SIGKILL
   * for the first process of a new pid namespace (without `init`), which does not get a SIGTERM that it has no handler for.
   */
  killSignal?: NodeJS.Signals | number;
}

/**
 * Starts a process: as Node's `spawn`, with everything that clone3(2) knows. Resolves when the program itself runs;
 * whatever fails before rejects with the step that failed, and leaves nothing behind.
 *
 * @param file - a path, or a name that is looked up in the child's `PATH`, inside its own root
 * @param args - its arguments
 * @param options - descriptors, attributes, confinement
 * @returns the running child
 * @throws KernelError with `step`: `ENOENT`, `EACCES`, `EPERM`, `EMFILE`, `EAGAIN` …
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what no kernel would take
 * @throws the reason of a `signal` that is aborted before; a `TimeoutError` where an `open` gate has let nothing through by then
 *
 * @example
 * ```ts
 * import { spawn } from '@iso/process';
 * const child = await spawn('sh', ['-c', 'echo hello; exit 3']);
 * child.stdout?.pipe(process.stdout);
 * const { code } = await child.exited;
 * if (code !== 3) throw new Error('not what it said');
 * ```
 */
export async function spawn(file: string, args: readonly string[] = [], options: SpawnOptions = {}): Promise<Child> {
  options.signal?.throwIfAborted();
  const startedAt = performance.now();
  const io = openStdio(stdioOf(options), options.terminal);
  const program = new LaunchProgram();
  let launched: Launched | undefined;
  let taken: ConsoleSocket | undefined;
  let open: OpenGate | undefined;
  try {
    open = options.gate === 'open' ? new OpenGate() : undefined;
    taken = options.console === 'pty' ? new ConsoleSocket() : undefined;
    await prepare(program, file, args, options, io.child, { gate: open?.theirs, console: taken?.theirs });
    // Setting up a root takes the kernel as long as the rest together: this thread need not wait for it, but where the
    // child sets what it would share with this process, or where a plain user could not open its own files in /proc meanwhile.
    const hidden = program.hidesMemory && process.geteuid?.() !== 0;
    const waits = !program.blocking && (!program.hasOwnRoot || hidden || options.oomScoreAdj !== undefined);
    launched = waits ? launch(program) : await launchAsync(program, signalOf(options, program.blocking));
    if (program.blocking) applyLateAttributes(launched.pid, options);
    if (taken) io.adopt(Pty.own(taken.take()));
    await open?.passed(file, hintsFor(file), options);
    // Not before: of a child that has ended by now the streams would end before anybody listens to them.
    io.closeChildSide();
    const child = new Child(launched, io, [options.argv0 ?? file, ...args], startedAt);
    // Of what has no handler for a signal, the kernel keeps that from the first process of a pid namespace.
    const first = (program.unshared & CLONE.NEWPID) !== 0 && !options.init;
    limit(child, { killSignal: first ? 'SIGKILL' : 'SIGTERM', ...options });
    return child;
  } catch (error) {
    if (launched) end(launched);
    else program.finish('failed');
    io.destroy();
    throw error;
  } finally {
    open?.[Symbol.dispose]();
    taken?.[Symbol.dispose]();
  }
}

/** What ends the wait for a start: one that may stand still, in a frozen cgroup, takes no longer than its timeout. */
function signalOf({ signal, timeout }: SpawnOptions, mayStand: boolean): { signal?: AbortSignal } {
  const limit = mayStand && timeout ? AbortSignal.timeout(timeout) : undefined;
  const either = signal && limit ? AbortSignal.any([signal, limit]) : (signal ?? limit);
  return either ? { signal: either } : {};
}

/** A console takes the place of the first three. */
function stdioOf({ stdio = 'pipe', console }: SpawnOptions): Stdio {
  if (console !== 'pty') return stdio;
  return ['ignore', 'ignore', 'ignore', ...(typeof stdio === 'string' ? [] : stdio.slice(3))];
}

/** Nobody will hear of it. */
function end({ pidfd }: Launched): void {
  attempt('pidfd_send_signal', pidfd, SIGKILL, null, 0);
  reap(pidfd, { block: true });
  pidfd.close();
}

const SIGKILL = 9;
/** From `killSignal` to SIGKILL, as of {@link Child.stop}. */
const GRACE_MS = 5000;
/** More is none to setTimeout. */
const MAX_TIMEOUT = 2 ** 31 - 1;

/**
 * The launch program that {@link spawn} would run, without running it: `explain()` prints it.
 *
 * @param file - as for spawn
 * @param args - as for spawn
 * @param options - as for spawn; pipes and terminals are shown as /dev/null
 * @returns the program as text
 */
export async function explain(file: string, args: readonly string[] = [], options: SpawnOptions = {}): Promise<string> {
  const program = new LaunchProgram();
  const nothing = Fd.open('/dev/null', { flags: O.RDWR });
  const items = stdioItems(stdioOf(options));
  const descriptors = items.map((item, i) => (item === 'ignore' && i > 2 ? null : nothing));
  try {
    await prepare(program, file, args, options, descriptors, {
      gate: options.gate === 'open' ? nothing : undefined,
      console: options.console === 'pty' ? nothing : undefined,
    });
    return program.explain();
  } finally {
    program.finish('failed');
    nothing.close();
  }
}

async function prepare(
  program: LaunchProgram,
  file: string,
  args: readonly string[],
  options: SpawnOptions,
  descriptors: readonly (Fd | null)[],
  opened: { gate: Fd | undefined; console: Fd | undefined },
): Promise<void> {
  check(file, args, options);
  for (const part of options.confine ?? []) {
    const wait = part.confine(program);
    if (wait) await wait;
  }
  const { terminal, session } = terminalOf(options, descriptors);
  applyAttributes(program, { ...options, session });
  replaceNull(program, options.console === undefined ? descriptors : descriptors.slice(3));
  const own = consoleOf(program, options, opened.console);
  const laid = own ? [own, own, own, ...descriptors.slice(3)] : descriptors;
  if (terminal)
    program.step('host', 'ioctl', [terminal, TTY.SET_CONTROLLING, 0], {
      text: 'ioctl(terminal, TIOCSCTTY)',
      hint: { ENOTTY: 'the descriptor is no terminal', EPERM: 'it is the controlling terminal of another session' },
    });
  const { gate: wanted } = options;
  // To be shown only, where there is none yet.
  const source = wanted === undefined || wanted === 'open' ? opened.gate : Fd.borrow(wanted);
  const gate = source && openGate(program, descriptors.length);
  layOut(program, source ? [...laid, source] : laid);
  if (options.cwd !== undefined) changeDirectory(program, options.cwd);
  if (options.init) {
    const init = openImage('init');
    program.defer(() => init.fd.close());
    program.supervise(init.fd, init.toldAt);
  }
  resetSignals(program);
  const env = options.env ?? (program.hasOwnRoot ? {} : process.env);
  const act = gate ? executeBehind(gate, wanted !== 'open') : execute;
  act(program, {
    file,
    argv: [options.argv0 ?? file, ...args],
    env: Object.entries(env).flatMap(([name, value]) => (value === undefined ? [] : [variable(name, value)])),
  });
}

function consoleOf(
  program: LaunchProgram,
  { console: socket, terminal: size, uid, gid, session }: SpawnOptions,
  ours: Fd | undefined,
) {
  if (socket === undefined) return undefined;
  if (!program.hasOwnRoot) throw invalid('a console is a terminal of a root of its own: rootfs() of @iso/mounts');
  if (session === false) throw invalid('a console needs a session of its own');
  return openConsole(program, socket === 'pty' ? (ours as Fd) : Fd.borrow(socket), { size, uid, gid });
}

function check(file: string, args: readonly string[], options: SpawnOptions): void {
  if (typeof file !== 'string') throw invalid('the file to execute must be a string');
  if (!Array.isArray(args)) throw invalid('the arguments must be an array of strings');
  const odd = args.find((arg) => typeof arg !== 'string');
  if (odd !== undefined) throw invalid(`an argument is no string: ${String(odd)}`);
  // What is misspelt would be left out silently, and the process less confined than it was meant to be.
  const unknown = Object.keys(options).find((name) => !Object.hasOwn(known, name));
  if (unknown !== undefined) throw invalid(`there is no option ${JSON.stringify(unknown)}`);
  const { confine = [], timeout, killSignal } = options;
  if (!Array.isArray(confine)) throw invalid('confine must be an array of parts');
  const alien = confine.findIndex((part) => typeof part?.confine !== 'function');
  if (alien >= 0) throw invalid(`confine[${alien}] is no part: it has no method confine`);
  if (timeout !== undefined && !(typeof timeout === 'number' && timeout >= 0 && timeout <= MAX_TIMEOUT))
    throw invalid(`timeout must be milliseconds up to ${MAX_TIMEOUT}, it is ${JSON.stringify(timeout)}`);
  if (killSignal !== undefined) signalNumber(killSignal);
}

const known: Record<keyof SpawnOptions, true> = {
  cwd: true,
  env: true,
  argv0: true,
  stdio: true,
  terminal: true,
  console: true,
  confine: true,
  init: true,
  gate: true,
  signal: true,
  timeout: true,
  killSignal: true,
  uid: true,
  gid: true,
  groups: true,
  umask: true,
  rlimits: true,
  nice: true,
  affinity: true,
  oomScoreAdj: true,
  session: true,
  controllingTerminal: true,
  parentDeathSignal: true,
};

/** The terminal that will be the controlling one, and whether there is a session of its own. */
function terminalOf(
  options: SpawnOptions,
  descriptors: readonly (Fd | null)[],
): { terminal: Fd | null | undefined; session: boolean } {
  const items = stdioItems(stdioOf(options));
  const own = items.indexOf('pty');
  const at = options.controllingTerminal ?? own;
  if (options.controllingTerminal !== undefined && !descriptors[at])
    throw invalid(`controllingTerminal: the child has no descriptor ${at}`);
  const terminal = descriptors[at];
  if (options.session === false && terminal) throw invalid('a controlling terminal needs a session of its own');
  const foreign = options.uid !== undefined || (options.confine?.length ?? 0) > 0;
  const session =
    options.session ??
    (terminal != null ||
      options.console !== undefined ||
      (foreign && [...new Set(descriptors)].some((fd) => fd && attributesOf(fd))));
  return { terminal, session };
}

function variable(name: string, value: string): string {
  if (typeof value !== 'string')
    throw invalid(`the environment variable ${name} must be a string, it is ${String(value)}`);
  if (name === '' || name.includes('='))
    throw invalid(`not the name of an environment variable: ${JSON.stringify(name)}`);
  return `${name}=${value}`;
}

function limit(child: Child, options: SpawnOptions & { killSignal: NodeJS.Signals | number }): void {
  const { signal, timeout, killSignal } = options;
  const undo: (() => void)[] = [];
  const insist = () => {
    const timer = setTimeout(() => child.end('SIGKILL'), GRACE_MS);
    undo.push(() => clearTimeout(timer));
  };
  if (signal) {
    const abort = () => {
      child.end(killSignal);
      insist();
      const error = new Error('The operation was aborted', { cause: signal.reason });
      if (child.listenerCount('error'))
        child.emit('error', Object.assign(error, { name: 'AbortError', code: 'ABORT_ERR' }));
    };
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    undo.push(() => signal.removeEventListener('abort', abort));
  }
  if (timeout !== undefined && timeout > 0) {
    const timer = setTimeout(() => {
      child.expire(killSignal);
      insist();
    }, timeout);
    undo.push(() => clearTimeout(timer));
  }
  if (undo.length)
    void child.exited.then(() => {
      for (const action of undo) action();
    });
}
