import { errnoName, errnoNumber, KernelError, type KernelErrorFields, UnsupportedError } from '../error.js';
import type { Compiled } from './compile.js';
import { stepText } from './explain.js';
import { isExec, Output, type Step } from './step.js';

/** Why there is no child. */
export function cloneError(errno: number, { cgroup, clone }: Compiled): Error {
  const code = errnoName(errno);
  if (code === 'ENOSYS')
    return new UnsupportedError('clone3', 'the kernel or a seccomp filter answered ENOSYS', { since: '5.3' });
  if (code === 'E2BIG' && cgroup)
    return new UnsupportedError('CLONE_INTO_CGROUP', 'the kernel knows a shorter clone_args', { since: '5.7' });
  const hint = (cgroup && cgroupHints[code]) || cloneHints[code];
  return new KernelError(errno, { syscall: 'clone3', call: clone(), ...(hint ? { hint } : {}) });
}

/** Why the child could not enter the cgroup that it was not to be born in. */
export function entryError(errno: number): KernelError {
  return new KernelError(errno, {
    syscall: 'write',
    call: 'write(cgroup.procs, "0")',
    hint: 'the group was killed by cgroup.kill before, and this kernel lets nobody be born in such a one: the child enters it itself',
  });
}

const cloneHints: Readonly<Record<string, string>> = {
  EPERM: 'creating namespaces needs CAP_SYS_ADMIN, or a user namespace joined first',
  EAGAIN: 'a limit on processes was reached: RLIMIT_NPROC, or pids.max of the cgroup',
  ENOSPC: 'the limit on namespaces was reached: /proc/sys/user/max_*_namespaces, or a depth of 32',
  EINVAL: 'the kernel refused one of its flags',
};
const cgroupHints: Readonly<Record<string, string>> = {
  EBUSY: 'the cgroup has domain controllers enabled for its children: start in a leaf',
  EACCES: 'moving into this cgroup needs write access to its cgroup.procs and to that of the common ancestor',
};

/** Why the child stopped at a step. */
export function stepError(errno: number, step: Step, { steps, readers }: Compiled): Error {
  const { syscall, args, options } = step;
  const fields: KernelErrorFields = { syscall, call: stepText(step, steps), step: place(step, steps) };
  const path = args.find((arg) => typeof arg === 'string' && arg !== '');
  if (typeof path === 'string') fields.path = path;
  // A search in PATH ends with ENOENT; a candidate that was there but not executable says more.
  const denied = -errnoNumber('EACCES');
  const hidden = isExec(step) && steps.some((other) => isExec(other) && other.slot.value === denied);
  const why = errnoName(errno) === 'ENOENT' && hidden ? denied : errno;
  const { hint: told } = options;
  const hint = typeof told === 'function' ? told() : typeof told === 'object' ? told[errnoName(why)] : told;
  if (hint) fields.hint = hint;
  const words = options.context && readers.get(options.context)?.args[1];
  const said = words instanceof Output ? words.bytes.toString('utf8').replace(/\0.*$/s, '').trim() : '';
  if (said) fields.kernelMessage = said.replace(/^[ewi] /, '');
  const error = new KernelError(why, fields);
  if (error.code !== 'ENOSYS') return error;
  return new UnsupportedError(syscall, 'the kernel or a seccomp filter answered ENOSYS', { cause: error });
}

/** Why the child is gone although no step failed; `last` is the step in which it was. */
export function deathError(signal: number | null, last: Step | undefined, { steps, clone }: Compiled): KernelError {
  return new KernelError(errnoNumber(signal === null ? 'ESRCH' : 'EINTR'), {
    syscall: last?.syscall ?? 'clone3',
    call: last ? stepText(last, steps) : clone(),
    hint:
      signal === null
        ? 'the child ended before it reached its end'
        : `signal ${signal} ended the child before its exec`,
    ...(last ? { step: place(last, steps) } : {}),
    info: { signal },
  });
}

function place(step: Step, steps: readonly Step[]): { index: number; of: number; phase: string } {
  return { index: steps.indexOf(step) + 1, of: steps.length, phase: step.phase };
}
