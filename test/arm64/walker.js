// What the launcher's arm64 code does with each kind of row, under qemu.
// Usage: node --conditions=iso-source --import ../loader/register.js walker.js SCRATCH QEMU
import { Output, StringArray } from '../../packages/sys/src/launcher/step.ts';
import { check } from './check.js';
import { row, SIGCHLD, walk } from './walk.js';

const EBADF = 9;
const EAGAIN = 11;
const exited = (code) => code << 8;
const stopped = (index, errno) => ({ failed: index, errno, status: exited(127) });
const how = ({ failed, errno, status }) => ({ failed, errno, status });
const went = { failed: undefined, errno: 0, status: 0 };

await check('walker: rows run in order in a child, results are kept, exit(0) ends it', () => {
  const seen = walk([row('getpid'), row('getppid'), row('sched_yield'), row('getpid')]);
  const { results, pid, waited } = seen;
  return [
    { ...how(seen), waited, pids: [results[0], results[3]], zero: results[2], child: pid > 0 && results[1] !== pid },
    { ...went, waited: pid, pids: [pid, pid], zero: 0, child: true },
  ];
});

await check(
  'walker: the caller gets its registers, stack and signal mask back; the child has all signals blocked',
  () => {
    const mask = new Output(8);
    const seen = walk([row('rt_sigprocmask', [0, null, mask, 8])], [mask]);
    // SIGKILL and SIGSTOP cannot be blocked; qemu keeps the last two signals for itself.
    const blocked = [9n, 19n, 63n, 64n].reduce(
      (set, signal) => set | (1n << (signal - 1n)),
      mask.bytes.readBigUInt64LE(),
    );
    return [
      [seen.preserved, seen.mask, blocked],
      [true, 0x200, 2n ** 64n - 1n],
    ];
  },
);

await check('walker: a refused clone returns its errno, registers and mask are restored, nothing is walked', () => {
  const CLONE_THREAD = 0x10000;
  const seen = walk([row('getpid')], [], { flags: CLONE_THREAD });
  return [
    [seen.pid, seen.preserved, seen.mask, seen.results],
    [-22, true, 0x200, [undefined]],
  ];
});

await check(
  'walker: in the calling thread it returns where a child would exit, registers and stack as they were',
  () => {
    const steps = [row('getpid'), row('close', [-1], { ignore: ['*'] }), row('sched_yield')];
    const seen = walk(steps, [], { here: true });
    const ENOSYS = 38;
    return [
      [seen.failed, seen.errno, seen.preserved, seen.results[0] > 0, seen.results.slice(1)],
      [3, ENOSYS, true, true, [-EBADF, 0]],
    ];
  },
);

for (const [errno, name, args] of [
  [EBADF, 'close', [-1]],
  [2, 'openat', [-100, '/nonexistent', 0, 0]],
  [22, 'lseek', [0, 0, 99]],
  [14, 'openat', [-100, 1, 0, 0]],
]) {
  await check(`walker: ${name} fails with ${errno}: the walk stops there, row and errno are told, exit(127)`, () => {
    const seen = walk([row('getpid'), row(name, args), row('getpid')]);
    return [
      { ...how(seen), results: seen.results },
      { ...stopped(1, errno), results: [seen.pid, -errno, undefined] },
    ];
  });
}

for (const [title, ignore, goes] of [
  ['the first of the list', ['EBADF'], true],
  ['the last of eight', ['EPERM', 'ENOENT', 'EINTR', 'EIO', 'ENXIO', 'E2BIG', 'ENOEXEC', 'EBADF'], true],
  ['any (*)', ['*'], true],
  ['any (*) behind another', ['EPERM', '*'], true],
  ['not listed', ['EPERM', 'ENOENT'], false],
]) {
  await check(`walker: ignored errnos, ${title}`, () => {
    const seen = walk([row('close', [-1], { ignore }), row('getpid')]);
    return [
      { ...how(seen), results: seen.results },
      { ...(goes ? went : stopped(0, EBADF)), results: [-EBADF, goes ? seen.pid : undefined] },
    ];
  });
}

for (const [jump, name, args, result, options] of [
  ['onZero', 'sched_yield', [], 0, {}],
  ['onValue', 'getpid', [], undefined, {}],
  // Values whose low half is zero, or looks like an error; descriptor 3 is the harness's table.
  ['onValue', 'lseek', [3, 2 ** 40, 0], 2 ** 40, {}],
  ['onValue', 'lseek', [3, 2 ** 40 - 1, 0], 2 ** 40 - 1, {}],
  ['onIgnored', 'close', [-1], -EBADF, { ignore: ['EBADF'] }],
]) {
  await check(`walker: ${jump} of ${name}${result > 0 ? ` (${result})` : ''} jumps, and only that`, () => {
    const steps = [row(name, args, options), row('getpid'), row('getppid'), row('getpid')];
    const others = ['onZero', 'onValue', 'onIgnored'].filter((other) => other !== jump);
    steps[0][jump] = steps[3];
    steps[0][others[0]] = steps[2];
    const seen = walk(steps);
    return [
      [seen.results, how(seen)],
      [[result ?? seen.pid, undefined, undefined, seen.pid], went],
    ];
  });
}

const CLOCK_MONOTONIC = 1;
const pause = Buffer.alloc(16);
pause.writeBigInt64LE(20_000_000n, 8);
/** Fails with EAGAIN after 20 ms: no signal of the set comes. */
const waits = (options) => row('rt_sigtimedwait', [Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]), null, pause, 8], options);
const nanoseconds = ({ bytes }) => bytes.readBigInt64LE(0) * 1_000_000_000n + bytes.readBigInt64LE(8);

for (const [title, options, expected] of [
  ['then it stops', {}, stopped(1, EAGAIN)],
  ['then the error is ignored', { ignore: ['EAGAIN'] }, went],
]) {
  await check(`walker: a row is repeated three times on EAGAIN, ${title}`, () => {
    const [before, after] = [new Output(16), new Output(16)];
    const steps = [row('clock_gettime', [CLOCK_MONOTONIC, before])];
    steps.push(waits({ ...options, retry: { on: ['EINTR', 'EAGAIN'], times: 3 } }));
    steps.push(row('clock_gettime', [CLOCK_MONOTONIC, after]));
    const seen = walk(steps, [before, after]);
    // Four calls of 20 ms. Where the walk stopped, only the counter tells.
    const lasted = expected === went ? Number(nanoseconds(after) - nanoseconds(before)) / 1e6 : 80;
    return [
      [how(seen), seen.results[1], seen.tries[1], lasted >= 80 && lasted < 2000],
      [expected, -EAGAIN, -1, true],
    ];
  });
}

await check('walker: another error than those to retry on stops at once', () => {
  const seen = walk([row('close', [-1], { retry: { on: ['EAGAIN', 'EINTR'], times: 3 } })]);
  return [
    [how(seen), seen.tries],
    [stopped(0, EBADF), [3]],
  ];
});

await check('walker: a repeated row goes on once it succeeds, its indirect argument loaded anew', () => {
  const TFD_NONBLOCK = 0x800;
  const [ticks, once] = [new Output(8), Buffer.alloc(32)];
  once.writeBigInt64LE(50_000_000n, 24);
  const timer = row('timerfd_create', [CLOCK_MONOTONIC, TFD_NONBLOCK]);
  const set = row('timerfd_settime', [timer.slot, 0, once, null]);
  const read = row('read', [timer.slot, ticks, 8], { retry: { on: ['EAGAIN'], times: 1e9 } });
  const seen = walk([timer, set, read], [ticks]);
  return [
    [how(seen), seen.results[2], ticks.bytes.readUInt32LE(), seen.tries[2] < 1e9 && seen.tries[2] > 0],
    [went, 8, 1, true],
  ];
});

await check('walker: results of earlier rows as arguments, beside plain ones', () => {
  const back = new Output(8);
  const file = row('memfd_create', ['x', 0]);
  const length = row('write', [file.slot, Buffer.from('abcdefgh'), 5]);
  const seen = walk([file, length, row('pread64', [file.slot, back, length.slot, 1])], [back]);
  return [
    [how(seen), seen.results.slice(1), back.bytes.toString()],
    [went, [5, 4], 'bcde\0\0\0\0'],
  ];
});

// Each argument alone, so that none is loaded in place of another, and all of them.
for (const chosen of [[0], [1], [2], [3], [4], [5], [0, 1, 2, 3, 4, 5]]) {
  await check(`walker: by reference of six arguments: ${chosen.map((i) => i + 1).join(' ')}`, () => {
    const [ADDRESS, SHARED_FIXED, FD] = [0x300000000, 0x11, 50];
    const back = new Output(5);
    const file = row('memfd_create', ['x', 0]);
    const copy = row('dup3', [file.slot, FD, 0]);
    const numbers = [ADDRESS, 4096, 3, SHARED_FIXED, FD, 8192];
    const values = numbers.map((number) => (number === FD ? copy : row('lseek', [FD, number, 0])));
    const map = row(
      'mmap',
      numbers.map((number, i) => (chosen.includes(i) ? values[i].slot : number)),
    );
    const write = row('pwrite64', [FD, Buffer.from('right'), 5, 8192]);
    // What stands at the mapping is the file at 8192: written elsewhere from there, and read again.
    const moved = [row('pwrite64', [FD, map.slot, 5, 100]), row('pread64', [FD, back, 5, 100])];
    const others = values.filter((value) => value !== copy);
    const seen = walk([file, copy, write, ...others, map, ...moved], [back]);
    return [
      [how(seen), seen.results.slice(-3), back.bytes.toString()],
      [went, [ADDRESS, 5, 5], 'right'],
    ];
  });
}

await check('walker: a row may clone: the grandchild walks on, the child takes onValue', () => {
  const fork = row('clone', [SIGCHLD, 0, 0, 0, 0]);
  const inner = row('getppid');
  const outer = row('getpid');
  const steps = [fork, inner, row('exit', [0]), outer, row('wait4', [-1, null, 0, null])];
  fork.onValue = outer;
  const seen = walk(steps);
  return [
    [how(seen), seen.results[1], seen.results[3], seen.results[4] > seen.pid],
    [went, seen.pid, seen.pid, true],
  ];
});

await check('walker: execve ends the walk: arguments and environment reach the program', () => {
  const script = 'echo "$0 $1 $X"; exit 5';
  const exec = row('execve', ['/bin/sh', new StringArray(['sh', '-c', script, 'zero', 'é']), new StringArray(['X=y'])]);
  const seen = walk([row('getpid'), exec, row('getpid')]);
  return [
    [how(seen), seen.stdout, seen.results],
    [{ ...went, status: exited(5) }, 'zero é y\n', [seen.pid, 0, undefined]],
  ];
});
