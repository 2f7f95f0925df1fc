import type { Part } from '@iso/sys';
import { RuntimeError } from '../error.js';
import type { Config, ProcessConfig, SchedulerConfig } from './spec.js';

/** Of linux/sched.h. */
const policies = {
  SCHED_OTHER: 0,
  SCHED_FIFO: 1,
  SCHED_RR: 2,
  SCHED_BATCH: 3,
  SCHED_ISO: 4,
  SCHED_IDLE: 5,
  SCHED_DEADLINE: 6,
};
const flags = {
  SCHED_FLAG_RESET_ON_FORK: 0x01,
  SCHED_FLAG_RECLAIM: 0x02,
  SCHED_FLAG_DL_OVERRUN: 0x04,
  SCHED_FLAG_KEEP_POLICY: 0x08,
  SCHED_FLAG_KEEP_PARAMS: 0x10,
  SCHED_FLAG_UTIL_CLAMP_MIN: 0x20,
  SCHED_FLAG_UTIL_CLAMP_MAX: 0x40,
};
const classes = { IOPRIO_CLASS_RT: 1, IOPRIO_CLASS_BE: 2, IOPRIO_CLASS_IDLE: 3 };
const domains = { LINUX: 0, LINUX32: 8 };

const IOPRIO_WHO_PROCESS = 1;
const IOPRIO_CLASS_SHIFT = 13;
/** Of struct sched_attr, its first version. */
const SIZE = 48;

/**
 * When a process gets processors and disks, and which kernel it sees.
 *
 * @param config - of the container
 * @param process_ - the process
 * @returns parts of its launch
 * @throws {@link RuntimeError} for words that there are not
 */
export function schedulingOf({ linux }: Config, { scheduler, ioPriority }: ProcessConfig): Part[] {
  const parts: Part[] = [];
  if (scheduler) {
    const bytes = attributes(scheduler);
    parts.push({
      confine: (program) =>
        void program.step('limits', 'sched_setattr', [0, bytes, 0], {
          text: `sched_setattr(${scheduler.policy})`,
          hint: { EPERM: 'a policy of real time needs CAP_SYS_NICE, and a cgroup that has time for it' },
        }),
    });
  }
  if (ioPriority) {
    const { class: name = '', priority = 0 } = ioPriority;
    const value = (word(classes, name, 'ioPriority.class') << IOPRIO_CLASS_SHIFT) | (priority & 7);
    if (!(priority >= 0 && priority <= 7)) throw new RuntimeError('process.ioPriority.priority is from 0 to 7');
    parts.push({
      confine: (program) => void program.step('limits', 'ioprio_set', [IOPRIO_WHO_PROCESS, 0, value]),
    });
  }
  if (linux?.personality) {
    const { domain = '', flags: more = [] } = linux.personality;
    if (more.length) throw new RuntimeError('linux.personality.flags: there are none');
    const value = word(domains, domain, 'linux.personality.domain');
    parts.push({ confine: (program) => void program.step('limits', 'personality', [value]) });
  }
  return parts;
}

function attributes({ policy, nice = 0, priority = 0, flags: set = [], ...times }: SchedulerConfig): Buffer {
  const bytes = Buffer.alloc(SIZE);
  bytes.writeUInt32LE(SIZE, 0);
  bytes.writeUInt32LE(word(policies, policy, 'scheduler.policy'), 4);
  bytes.writeBigUInt64LE(BigInt(set.reduce((all, one) => all | word(flags, one, 'scheduler.flags'), 0)), 8);
  bytes.writeInt32LE(nice, 16);
  bytes.writeUInt32LE(priority, 20);
  for (const [i, name] of (['runtime', 'deadline', 'period'] as const).entries())
    bytes.writeBigUInt64LE(BigInt(times[name] ?? 0), 24 + i * 8);
  return bytes;
}

function word<Words extends Record<string, number>>(words: Words, name: string, where: string): number {
  const value = Object.hasOwn(words, name) ? words[name] : undefined;
  if (value === undefined) throw new RuntimeError(`${where}: ${JSON.stringify(name)} is none of ${Object.keys(words)}`);
  return value;
}

/**
 * A list of processors, `0-3,7`.
 *
 * @param text - the list
 * @returns their numbers
 * @throws {@link RuntimeError} for what is none
 */
export function processors(text: string): number[] {
  const numbers = text.split(',').flatMap((range) => {
    const [, from, to = from] = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(range.trim()) ?? [];
    if (from === undefined || Number(to) < Number(from))
      throw new RuntimeError(`no list of processors: ${JSON.stringify(text)}`);
    return Array.from({ length: Number(to) - Number(from) + 1 }, (_, i) => Number(from) + i);
  });
  return [...new Set(numbers)];
}
