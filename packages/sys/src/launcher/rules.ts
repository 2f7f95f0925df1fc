import { Fd } from '../fd.js';
import { callText, checkString, invalid, word } from '../kernel.js';
import { CLONE, F, PR } from '../raw/flags.js';
import type { SyscallName } from '../raw/numbers.js';
import { Output, Slot, type Step, type StepArg, StringArray } from './step.js';

/**
 * What a system call in a child does to this process, whose memory the child shares, and whose descriptors an errand shares.
 */

/** Throws for a step that must not stand in a program. */
export function refuse(
  name: SyscallName,
  args: readonly StepArg[],
  { errand, sharesFiles }: { errand: boolean; sharesFiles: boolean },
): void {
  if (args.length > 6) throw invalid(`${name}: a system call takes six arguments at the most`);
  for (let i = 0; i < args.length; i++) checkArgument(name, args[i] as StepArg);
  if (memoryWide.has(name) || (name === 'prctl' && (memoryWidePrctl as ReadonlySet<unknown>).has(int(name, args[0]))))
    throw invalid(`${callText(name, args)} would change the memory of this process too`);
  if (name === 'clone' || name === 'clone3' || name === 'fork' || name === 'vfork')
    throw invalid(`${name} is the launcher's own business`);
  if (errand && (name === 'execve' || name === 'execveat'))
    throw invalid('an errand ends by itself; use a process to execute');
  if (sharesFiles && changesDescriptors(name, args))
    throw invalid(`${callText(name, args)} in an errand would act on this process's descriptors`);
}

/** Whether a call changes credentials, which makes whoever shares memory with its caller undumpable. */
export function changesCredentials(name: SyscallName): boolean {
  return credentials.has(name);
}

/** Descriptors that a step has left open in this process. */
export function openedBy({ syscall, args, slot, options }: Step): number[] {
  const { value } = slot;
  if (value === undefined || value < 0) return [];
  if (options.opens || opens.has(syscall) || (syscall === 'fcntl' && duplicates.has(Number(args[1])))) return [value];
  const pair = syscall === 'pipe2' || syscall === 'pipe' ? args[0] : syscall === 'socketpair' ? args[3] : undefined;
  return pair instanceof Output ? [pair.bytes.readInt32LE(0), pair.bytes.readInt32LE(4)] : [];
}

function checkArgument(name: string, arg: StepArg): void {
  if (typeof arg === 'number' || typeof arg === 'bigint') word(arg);
  else if (typeof arg === 'string') checkString(arg);
  else if (arg instanceof StringArray) for (const text of arg.strings) checkString(text);
  else if (
    arg !== null &&
    !(arg instanceof Fd || arg instanceof Slot || arg instanceof Output || arg instanceof Uint8Array)
  )
    throw invalid(`${name}: ${typeof arg === 'object' ? 'an object' : String(arg)} is no argument of a system call`);
}

function changesDescriptors(name: SyscallName, args: readonly StepArg[]): boolean {
  if (descriptorCalls.has(name)) return true;
  if (name === 'fcntl') return int(name, args[1]) === F.SETFD;
  if (name === 'ioctl') return args[1] === FIOCLEX || args[1] === FIONCLEX;
  // The results of what comes after it would be open in nobody's table.
  return name === 'unshare' && (int(name, args[0]) & CLONE.FILES) !== 0;
}

/** An argument that decides what a call does: known when the program is made, and cut to 32 bits as the kernel does. */
function int(name: string, arg: StepArg | undefined): number {
  if (typeof arg === 'number' || typeof arg === 'bigint') return Number(BigInt.asIntN(32, BigInt(arg)));
  throw invalid(`${name}: what it does must be a number here, not a result`);
}

const FIOCLEX = 0x5451;
const FIONCLEX = 0x5450;

const memoryWide: ReadonlySet<SyscallName> = new Set([
  'mmap',
  'munmap',
  'mremap',
  'mprotect',
  'pkey_mprotect',
  'brk',
  'madvise',
  'process_madvise',
  'mlock',
  'mlock2',
  'mlockall',
  'munlock',
  'munlockall',
  'membarrier',
  'remap_file_pages',
  'shmat',
  'shmdt',
  'io_setup',
  'io_destroy',
  'userfaultfd',
  'set_robust_list',
  'rseq',
  'set_tid_address',
  'map_shadow_stack',
  'mseal',
  'modify_ldt',
  'pkey_alloc',
  'pkey_free',
  'mbind',
  'migrate_pages',
  'move_pages',
  'set_mempolicy_home_node',
  'arch_prctl',
  'uselib',
]);
const memoryWidePrctl: ReadonlySet<number> = new Set([
  PR.SET_MM,
  PR.SET_MDWE,
  PR.SET_MEMORY_MERGE,
  PR.SET_DUMPABLE,
  PR.SET_THP_DISABLE,
  PR.SET_VMA,
  PR.FUTEX_HASH,
]);
const descriptorCalls: ReadonlySet<SyscallName> = new Set(['close', 'close_range', 'dup2', 'dup3']);
const credentials: ReadonlySet<SyscallName> = new Set([
  'setuid',
  'setgid',
  'setresuid',
  'setresgid',
  'setreuid',
  'setregid',
  'setfsuid',
  'setfsgid',
]);
const duplicates: ReadonlySet<number> = new Set([F.DUPFD, F.DUPFD_CLOEXEC]);
/** Calls whose result is a new descriptor. */
const opens: ReadonlySet<string> = new Set([
  'open',
  'openat',
  'openat2',
  'fsopen',
  'fsmount',
  'fspick',
  'open_tree',
  'open_tree_attr',
  'socket',
  'pidfd_open',
  'memfd_create',
  'eventfd2',
  'timerfd_create',
  'signalfd4',
  'epoll_create1',
  'inotify_init1',
  'dup',
  'open_by_handle_at',
  'accept',
  'accept4',
  'creat',
  'fanotify_init',
  'perf_event_open',
  'io_uring_setup',
  'memfd_secret',
  'pidfd_getfd',
  'mq_open',
]);
