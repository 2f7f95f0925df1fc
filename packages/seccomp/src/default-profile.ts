import { Profile } from './profile.js';
import type { ProfileSyscall } from './schema.js';

/**
 * What every process may do, by what it is about. It decides as Docker's default profile does on x64 and arm64; that one is
 * written by name for all architectures, in the order of the alphabet.
 */
const files = [
  'open openat openat2 creat close close_range read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2',
  'lseek truncate ftruncate fallocate fsync fdatasync sync syncfs sync_file_range readahead fadvise64 copy_file_range',
  'sendfile splice tee vmsplice dup dup2 dup3 fcntl flock ioctl pipe pipe2 eventfd eventfd2 memfd_create memfd_secret',
  'stat lstat fstat newfstatat statx statfs fstatfs access faccessat faccessat2 readlink readlinkat getdents getdents64',
  'mkdir mkdirat rmdir mknod mknodat link linkat symlink symlinkat unlink unlinkat rename renameat renameat2 chdir fchdir getcwd',
  'chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes utimensat futimesat umask cachestat',
  'getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat listxattr llistxattr flistxattr listxattrat',
  'removexattr lremovexattr fremovexattr removexattrat name_to_handle_at statmount listmount',
  'inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark',
  'io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents',
];
const waiting = [
  'select pselect6 poll ppoll epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2',
  'pause nanosleep clock_nanosleep restart_syscall sched_yield',
];
const memory = [
  'brk mmap munmap mremap mprotect pkey_mprotect pkey_alloc pkey_free msync mincore madvise mlock mlock2 munlock mlockall munlockall',
  'remap_file_pages membarrier mseal map_shadow_stack',
];
const processes = [
  'fork vfork execve execveat exit exit_group wait4 waitid getpid getppid gettid getpgid getpgrp setpgid getsid setsid',
  'kill tkill tgkill pidfd_open pidfd_send_signal process_mrelease prctl seccomp rseq set_tid_address set_robust_list get_robust_list',
  'get_thread_area set_thread_area futex futex_wait futex_wake futex_waitv futex_requeue getcpu uretprobe',
  'getpriority setpriority ioprio_get ioprio_set sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam',
  'sched_setparam sched_getscheduler sched_setscheduler sched_get_priority_min sched_get_priority_max sched_rr_get_interval',
  'getrlimit setrlimit prlimit64 getrusage times sysinfo uname',
  'landlock_create_ruleset landlock_add_rule landlock_restrict_self',
];
const signals = [
  'rt_sigaction rt_sigprocmask rt_sigpending rt_sigsuspend rt_sigtimedwait rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn',
  'sigaltstack signalfd signalfd4 alarm getitimer setitimer',
];
const credentials = [
  'getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid',
  'setgroups capget capset',
];
const time = [
  'time gettimeofday clock_gettime clock_getres adjtimex clock_adjtime timer_create timer_delete timer_gettime timer_settime',
  'timer_getoverrun timerfd_create timerfd_gettime timerfd_settime getrandom',
];
const sockets = [
  'socketpair bind listen accept accept4 connect shutdown getsockname getpeername getsockopt setsockopt',
  'sendto sendmsg sendmmsg recvfrom recvmsg recvmmsg',
];
const ipc = [
  'shmget shmat shmctl shmdt semget semop semtimedop semctl msgget msgsnd msgrcv msgctl',
  'mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr',
];

/** What a capability lets its holder do beyond. */
const byCapability: Readonly<Record<string, string>> = {
  DAC_READ_SEARCH: 'open_by_handle_at',
  SYS_ADMIN:
    'bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules ' +
    'lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname ' +
    'setns syslog umount2 unshare',
  SYS_BOOT: 'reboot',
  SYS_CHROOT: 'chroot',
  SYS_MODULE: 'init_module finit_module delete_module',
  SYS_PACCT: 'acct',
  SYS_PTRACE: 'kcmp pidfd_getfd process_madvise',
  SYS_RAWIO: 'iopl ioperm',
  SYS_TIME: 'settimeofday clock_settime',
  SYS_TTY_CONFIG: 'vhangup',
  SYS_NICE: 'get_mempolicy set_mempolicy mbind set_mempolicy_home_node',
  SYSLOG: 'syslog',
  BPF: 'bpf',
  PERFMON: 'perf_event_open',
};

/** Address families whose sockets reach beyond namespaces. */
const AF_ALG = 38;
const AF_VSOCK = 40;
/** Of personality(2): PER_LINUX, PER_LINUX32, either with UNAME26, and 0xffffffff that only asks. */
const personalities = [0, 8, 0x20000, 0x20008, 0xffffffff];
/** NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. */
const CLONE_NEW = 0x7e020000;
const ENOSYS = 38;

const allow = (calls: string, more: Partial<ProfileSyscall> = {}): ProfileSyscall => ({
  names: calls.split(' '),
  action: 'SCMP_ACT_ALLOW',
  ...more,
});
const when = (op: string, index: number, value: number) => ({ args: [{ op: `SCMP_CMP_${op}`, index, value }] });
const without = { excludes: { caps: ['CAP_SYS_ADMIN'] } };

/**
 * The default profile: equal in effect to Docker's of 2026. What is newer than the table fails with ENOSYS, all else that it does not
 * allow with EPERM.
 *
 * @example
 * ```ts
 * import { defaultProfile } from '@iso/seccomp';
 * const filter = defaultProfile.filter({ capabilities: ['CHOWN', 'NET_BIND_SERVICE'], architecture: 'x64' });
 * if (filter.evaluate('mount') === 'allow' || filter.evaluate('chown') !== 'allow') throw new Error('not the default');
 * ```
 */
export const defaultProfile: Profile = Profile.parse({
  defaultAction: 'SCMP_ACT_ERRNO',
  defaultErrnoRet: 1,
  syscalls: [
    ...[files, waiting, memory, processes, signals, credentials, time, sockets, ipc]
      .flat()
      .map((calls) => allow(calls)),
    // Before 4.8 a tracer could change a call behind the filter's back.
    allow('ptrace process_vm_readv process_vm_writev', { includes: { minKernel: '4.8' } }),
    allow('socket', when('LT', 0, AF_ALG)),
    allow('socket', when('EQ', 0, AF_ALG + 1)),
    allow('socket', when('GT', 0, AF_VSOCK)),
    ...personalities.map((persona) => allow('personality', when('EQ', 0, persona))),
    allow('arch_prctl modify_ldt', { includes: { arches: ['amd64'] } }),
    // No namespaces. What clone3 is asked for lies in memory: libc goes on with clone.
    allow('clone', { ...when('MASKED_EQ', 0, CLONE_NEW), ...without }),
    { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS, ...without },
    ...Object.entries(byCapability).map(([name, calls]) => allow(calls, { includes: { caps: [`CAP_${name}`] } })),
    // Also on kernels before 4.8.
    allow('ptrace process_vm_readv process_vm_writev', { includes: { caps: ['CAP_SYS_PTRACE'] } }),
  ],
});
