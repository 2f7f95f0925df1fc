/**
 * The ground under the other packages: typed system calls, errors that say why, owned descriptors, and the launcher that
 * starts confined children without a thread of this process ever changing.
 *
 * @packageDocumentation
 */
export { Batch, BatchedCall } from './batch.js';
export { errnoName, errnoNumber, KernelError, type KernelErrorFields, UnsupportedError } from './error.js';
export { Fd } from './fd.js';
export { Feature, type Support } from './feature.js';
export { features } from './features.js';
export {
  callText,
  invalid,
  type Kernel,
  kernel,
  type LaunchPlan,
  replaceKernel,
  type SyscallArg,
} from './kernel.js';
export { errand, errandAsync, type Launched, launch, launchAsync, type Parked, park } from './launcher/launch.js';
export { type Phase, phases } from './launcher/phase.js';
export { type Ending, LaunchProgram, type Part } from './launcher/program.js';
export { Output, Slot, type StepArg, type StepOptions, StringArray } from './launcher/step.js';
export { storeResult } from './launcher/store.js';
export { lockFile } from './lock.js';
export { openHow } from './open-how.js';
export { openPidfd } from './pidfd.js';
export { AF, AT, CLONE, F, MSG, O, P, POLL, PR, RESOLVE, SCM, SO, SOCK, SOL, W } from './raw/flags.js';
export { type SyscallName, syscallNumber, syscallNumbers } from './raw/numbers.js';
export { socketPair } from './socket-pair.js';
export { startTime } from './start-time.js';
export { addressOf, attempt, retryOnInterrupt, syscall } from './syscall.js';
export { type ExitStatus, type ResourceUsage, reap } from './wait.js';
export { FdWatcher, type Readiness, type WatchOptions, watchFd } from './watcher.js';
