import { SeccompError } from './error.js';

/** A condition of a rule. Of SCMP_CMP_MASKED_EQ `value` is the mask, and `valueTwo` what is compared. */
export interface ProfileCondition {
  readonly index: number;
  readonly value: number;
  readonly valueTwo?: number;
  readonly op: string;
}

/** When a rule applies: where all of `caps` are held, on any of `arches`, from a kernel on. */
interface ProfileWhen {
  readonly caps?: readonly string[];
  readonly arches?: readonly string[];
  readonly minKernel?: string;
}

/** A rule. */
export interface ProfileSyscall {
  readonly names?: readonly string[];
  readonly name?: string;
  readonly action: string;
  readonly errnoRet?: number;
  readonly errno?: string;
  readonly args?: readonly ProfileCondition[];
  readonly includes?: ProfileWhen;
  readonly excludes?: ProfileWhen;
}

/** A profile, as far as anything here depends on it. */
export interface ProfileData {
  readonly defaultAction: string;
  readonly defaultErrnoRet?: number;
  readonly defaultErrno?: string;
  readonly flags?: readonly string[];
  readonly syscalls: readonly ProfileSyscall[];
}

type Kind = 'string' | 'number' | 'strings' | 'object' | 'objects';
type Shape = Readonly<Record<string, Kind>>;

const profile: Shape = {
  defaultAction: 'string',
  defaultErrnoRet: 'number',
  defaultErrno: 'string',
  architectures: 'strings',
  archMap: 'objects',
  flags: 'strings',
  listenerPath: 'string',
  listenerMetadata: 'string',
  syscalls: 'objects',
  comment: 'string',
};
const syscall: Shape = {
  names: 'strings',
  name: 'string',
  action: 'string',
  errnoRet: 'number',
  errno: 'string',
  args: 'objects',
  comment: 'string',
  includes: 'object',
  excludes: 'object',
};
const condition: Shape = { index: 'number', value: 'number', valueTwo: 'number', op: 'string' };
const when: Shape = { caps: 'strings', arches: 'strings', minKernel: 'string' };
const archMap: Shape = { architecture: 'string', subArchitectures: 'strings' };

/** Every architecture of the format; which of them a profile lists is no matter, the native one is always filtered. */
const architectures =
  /^SCMP_ARCH_(X86|X86_64|X32|ARM|AARCH64|MIPS|MIPS64|MIPS64N32|MIPSEL|MIPSEL64|MIPSEL64N32|PPC|PPC64|PPC64LE|S390|S390X|PARISC|PARISC64|RISCV64|LOONGARCH64|M68K|SH|SHEB)$/;

/** Throws where a profile is not as it must be. */
export function field(holds: boolean, message: string): void {
  if (!holds) throw new SeccompError('profile', `seccomp profile: ${message}`);
}

/**
 * Judges a profile. What is not known is refused: a rule whose `excludes` is misspelt would allow what it was to forbid.
 *
 * @param value - what JSON.parse returned
 * @returns the profile
 * @throws {@link SeccompError} `profile`
 */
export function check(value: unknown): ProfileData {
  const data = judge('the profile', value, profile);
  field(typeof data.defaultAction === 'string', 'it has no defaultAction');
  for (const name of list(data.architectures)) field(architectures.test(String(name)), `no architecture: ${name}`);
  for (const entry of list(data.archMap)) {
    const { architecture, subArchitectures } = judge('archMap', entry, archMap);
    for (const name of [architecture, ...list(subArchitectures)])
      field(architectures.test(String(name)), `no architecture: ${name}`);
  }
  const syscalls = list(data.syscalls).map((entry, i) => rule(`rule ${i + 1}`, entry));
  return { ...data, syscalls } as unknown as ProfileData;
}

function rule(what: string, value: unknown): Record<string, unknown> {
  const found = judge(what, value, syscall);
  field((found.names !== undefined) !== (found.name !== undefined), `${what} needs either names or name`);
  field(typeof found.action === 'string', `${what} has no action`);
  for (const key of ['includes', 'excludes']) {
    if (found[key] === undefined) continue;
    const { minKernel } = judge(`${key} of ${what}`, found[key], when);
    field(minKernel === undefined || /^\d{1,3}\.\d{1,3}$/.test(String(minKernel)), `${what}: minKernel is as 4.8`);
  }
  for (const entry of list(found.args)) {
    const { index, op, ...values } = judge(`args of ${what}`, entry, condition);
    field(Number.isInteger(index) && (index as number) >= 0 && (index as number) <= 5, `${what}: index is from 0 to 5`);
    field(typeof op === 'string', `${what}: a condition has no op`);
    field(values.value !== undefined, `${what}: a condition has no value`);
    for (const number of Object.values(values))
      field(
        Number.isInteger(number) && Number(number) >= 0 && Number(number) <= 2 ** 64,
        `${what}: no value: ${number}`,
      );
  }
  return found;
}

/** An object with no other fields than those; what is null is not there, as to Go. */
function judge(what: string, value: unknown, shape: Shape): Record<string, unknown> {
  field(typeof value === 'object' && value !== null && !Array.isArray(value), `${what} must be an object`);
  const entries = Object.entries(value as object).filter(([key, it]) => it !== null && !key.startsWith('$'));
  for (const [key, it] of entries) {
    const kind = Object.hasOwn(shape, key) ? shape[key] : undefined;
    field(kind !== undefined, `${what} has no ${JSON.stringify(key)}`);
    field(isKind(it, kind as Kind), `${what}: ${key} must be ${kinds[kind as Kind]}`);
  }
  return Object.fromEntries(entries);
}

const kinds: Readonly<Record<Kind, string>> = {
  string: 'a string',
  number: 'a number',
  strings: 'an array of strings',
  object: 'an object',
  objects: 'an array of objects',
};

function isKind(value: unknown, kind: Kind): boolean {
  const isObject = (it: unknown) => typeof it === 'object' && it !== null && !Array.isArray(it);
  if (kind === 'strings') return Array.isArray(value) && value.every((it) => typeof it === 'string');
  if (kind === 'objects') return Array.isArray(value) && value.every(isObject);
  if (kind === 'object') return isObject(value);
  return kind === 'string' ? typeof value === 'string' : typeof value === 'number';
}

function list(value: unknown): readonly unknown[] {
  return (value ?? []) as readonly unknown[];
}
