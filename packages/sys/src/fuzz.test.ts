import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { fromSources } from '../../../test/typescript.js';

/** Everything that a caller may pass by mistake, to calls that follow no address. Garbage is collected at each step. */
const script = `
  import fc from 'fast-check';
  import { errand, Fd, KernelError, LaunchProgram, launch, reap, StringArray, syscall, UnsupportedError } from ${JSON.stringify(join(import.meta.dirname, 'index.ts'))};
  const detached = () => { const bytes = new Uint8Array(64); structuredClone(bytes, { transfer: [bytes.buffer] }); return bytes; };
  const closed = () => { const fd = Fd.own(syscall('eventfd2', 0, 0o2000000)); fd.close(); return fd; };
  const text = fc.oneof(
    fc.string({ unit: 'binary' }), fc.string({ unit: 'grapheme' }),
    fc.constantFrom('', '\\0', 'a\\0b', '\\ud800', 'x\\udc00y', '/'.repeat(4095), '/' + 'a'.repeat(4096), 'é'.repeat(70000), '/no/such', '/etc'),
  );
  const number = fc.oneof(
    fc.integer(), fc.double(), fc.bigInt(), fc.maxSafeInteger(),
    fc.constantFrom(NaN, -0, Infinity, -Infinity, 2 ** 53, 2 ** 53 - 1, -(2 ** 53), 2 ** 63, 2n ** 63n, 2n ** 64n - 1n, 2n ** 64n, -(2n ** 63n), 1e300, 987654),
  );
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 5000 }),
    fc.constantFrom(detached, () => Buffer.alloc(0), () => Buffer.from('').subarray(0, 0), () => new Uint8Array(new SharedArrayBuffer(9)),
      () => new Uint8Array(new ArrayBuffer(8, { maxByteLength: 64 })), () => Buffer.allocUnsafe(10).subarray(9), () => Buffer.alloc(1 << 20)).map((make) => make()),
  );
  const odd = fc.oneof(fc.anything(), fc.constantFrom(undefined, true, Symbol('x'), () => 1, [], {}, { number: NaN }, { number: 2 ** 60 }, { number: '3' }, { number: null }, Object.create(null), { number: Object.create(null) }, new Date(), new Uint16Array(3), new ArrayBuffer(8)), fc.constant(0).map(closed));
  const any = fc.oneof({ weight: 3, arbitrary: number }, { weight: 3, arbitrary: text }, { weight: 2, arbitrary: bytes }, { weight: 1, arbitrary: odd }, fc.constant(null));
  const names = fc.constantFrom('getppid', 'getpid', 'sched_yield', 'gettid', 'inotify_rm_watch', 'nonsense', '__proto__', '', 'toString', 'unshare', 'execve', 'mmap');
  // The path is judged by the kernel; what stands before and after it is no address.
  const onPath = fc.record({ name: fc.constantFrom('faccessat', 'memfd_create'), path: fc.oneof(text, fc.uint8Array().map((b) => Buffer.from([...b, 0])), odd) });
  const seen = new Map();
  let count = 0;
  const guarded = (action) => {
    try { action(); seen.set('fine', (seen.get('fine') ?? 0) + 1); }
    catch (error) {
      const known = error instanceof TypeError && error.code === 'ERR_INVALID_ARG_VALUE' || KernelError.is(error) || error instanceof UnsupportedError || error?.code === 'ERR_INVALID_STATE';
      // Printed here: fast-check cannot show a detached buffer.
      if (!known) { console.error(error); process.exit(9); }
      seen.set(error.name, (seen.get(error.name) ?? 0) + 1);
    }
    gc({ type: count++ % 20 ? 'minor' : 'major' });
  };
  const some = () => ({ numRuns: 100_000, interruptAfterTimeLimit: 2000 });
  fc.assert(fc.property(names, fc.array(any, { maxLength: 8 }), (name, args) => guarded(() => syscall(name, ...args))), some());
  fc.assert(fc.property(onPath, ({ name, path }) => guarded(() => {
    if (name === 'memfd_create') Fd.own(syscall(name, path, 1)).close();
    else syscall(name, -100, path, 0);
  })), some());
  const option = fc.record({
    ignore: fc.array(fc.oneof(fc.constantFrom('ENOENT', 'EPERM', '*', 'ENOSUCH'), fc.string()), { maxLength: 9 }),
    retry: fc.record({ on: fc.array(fc.constantFrom('EINTR', 'ENOENT')), times: fc.oneof(fc.nat(3), fc.constantFrom(NaN, -1, 1.5)) }),
    hint: text, text, opens: fc.boolean(),
  }, { requiredKeys: [] });
  const arrays = fc.array(text, { maxLength: 4 }).map((strings) => new StringArray(strings));
  const step = fc.record({ phase: fc.constantFrom('birth', 'host', 'cwd', 'fds', 'end', 'start', '__proto__'), name: fc.oneof(names, fc.constantFrom('close', 'prctl', 'fcntl')), args: fc.array(fc.oneof(any, arrays, fc.constant('slot'), fc.constant('output')), { maxLength: 7 }), option, size: fc.oneof(fc.nat(5000), number) });
  fc.assert(fc.property(fc.array(step, { maxLength: 12 }), fc.boolean(), (steps, asErrand) => {
    const program = new LaunchProgram(asErrand ? 'errand' : 'process');
    const made = [];
    for (const { phase, name, args, option, size } of steps) {
      // Calls with an effect are only for the builder to judge.
      const harmless = ['getppid', 'getpid', 'sched_yield', 'gettid', 'inotify_rm_watch'].includes(name);
      guarded(() => {
        const filled = args.map((arg) => arg === 'slot' ? made.at(-1) ?? 0 : arg === 'output' ? program.output(size) : arg);
        const target = harmless ? program : new LaunchProgram(program.ending);
        made.push(target.step(phase, name, filled, option));
      });
    }
    guarded(() => program.explain());
    guarded(() => {
      if (asErrand) return errand(program);
      program.step('exec', 'execve', ['/bin/true', new StringArray(['true']), new StringArray([])]);
      const { pidfd } = launch(program);
      reap(pidfd, { block: true });
      pidfd.close();
    });
  }), some());
  console.log(JSON.stringify(Object.fromEntries(seen)));`;

it('whatever is passed, is an error of the argument or of the kernel, and never the end of the process', {
  timeout: 120_000,
}, () => {
  const args = ['--expose-gc', ...fromSources, '--input-type=module', '-e', script];
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect({ status, signal }, stderr.slice(-3000)).toEqual({ status: 0, signal: null });
  const seen = JSON.parse(stdout);
  for (const kind of ['fine', 'TypeError', 'KernelError']) expect(seen[kind], kind).toBeGreaterThan(5);
});
