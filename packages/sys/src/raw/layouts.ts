/**
 * Structures of the kernel's interfaces: their sizes in bytes, and where the fields are that this package reads or writes.
 * Under the kernel's names; `scripts/headers.js` compares them with its headers.
 */
const x64 = process.arch === 'x64';

export const layouts = {
  /** `linux/sched.h`, version 2. */
  clone_args: { size: 88, flags: 0, pidfd: 8, child_tid: 16, parent_tid: 24, exit_signal: 32, cgroup: 80 },
  /** `linux/openat2.h` */
  open_how: { size: 24, flags: 0, mode: 8, resolve: 16 },
  /** `asm-generic/siginfo.h`, of a child's end. */
  siginfo: { size: 128, si_signo: 0, si_code: 8, si_status: 24 },
  /** `linux/resource.h` */
  rusage: {
    size: 144,
    ru_utime: 0,
    ru_stime: 16,
    ru_maxrss: 32,
    ru_minflt: 64,
    ru_majflt: 72,
    ru_nvcsw: 128,
    ru_nivcsw: 136,
  },
  /** `linux/eventpoll.h`; packed on x86-64 alone. */
  epoll_event: { size: x64 ? 12 : 16, events: 0, data: x64 ? 4 : 8 },
  /** `asm-generic/poll.h` */
  pollfd: { size: 8, fd: 0, events: 4, revents: 6 },
} as const;
