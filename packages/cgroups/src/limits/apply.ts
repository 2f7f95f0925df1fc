import { attachDevices, type Change } from '../devices/attach.js';
import { CgroupError, E } from '../error.js';
import type { CgroupDirectory } from '../raw/directory.js';
import { members } from '../value.js';
import { legacyBytes } from './memory.js';
import type { Write } from './plan.js';

/**
 * Does what a plan says. Each write is read back; where one fails, or does not stick, those before it are undone, last
 * first.
 *
 * @param writes - of a plan
 * @param directoryOf - the group's directory for a write
 * @param fresh - the group is new, and will be removed where something is refused: nothing is put back
 * @throws CgroupError of the write that failed; `notApplied` or `invalidPartition` where the kernel took it and shows another
 */
export function apply(writes: readonly Write[], directoryOf: (write: Write) => CgroupDirectory, fresh = false): void {
  const changes: Change[] = [];
  const lists = new Set<CgroupDirectory>();
  try {
    for (const write of writes) {
      const directory = directoryOf(write);
      if (write.rules) changes.push(attachDevices(directory, write.rules));
      else if (write.controller === 'devices') {
        if (!lists.has(directory)) changes.push(deviceLists(directory));
        lists.add(directory);
        directory.write(write.file, write.value);
      } else one(write, directory, fresh ? undefined : changes);
    }
  } catch (error) {
    for (const change of changes.reverse()) {
      try {
        change.undo();
      } catch {
        // What cannot be put back (the group was removed meanwhile) must not hide why.
      }
    }
    throw error;
  }
  for (const change of changes) change.keep();
}

function one(write: Write, directory: CgroupDirectory, changes: Change[] | undefined): void {
  const before = changes && write.shape !== 'command' ? directory.read(write.file) : undefined;
  const how = write.nonblock ? { nonblock: true } : {};
  let after: string | undefined;
  try {
    if (write.shape === 'command') directory.write(write.file, write.value, how);
    else after = directory.writeAndRead(write.file, write.value, how);
  } catch (error) {
    if (write.optional && CgroupError.is(error, 'invalidValue') && error.code === 'ENOENT') return;
    throw error;
  }
  if (before !== undefined) {
    changes?.push({ undo: () => directory.write(write.file, former(write, before)), keep: () => undefined });
  }
  if (write.shape !== 'command') check(write, directory, after ?? '');
}

/** What puts a file back to what it said. */
function former(write: Write, text: string): string {
  const { shape, version, value, file } = write;
  switch (shape) {
    case 'bytes':
      return version === 1 && legacyBytes(text) === 'max' ? '-1' : text;
    case 'list':
      return text === '' ? '\n' : text;
    case 'partition':
      return text.split(' ')[0] as string;
    case 'entry': {
      const [key = ''] = value.split(' ');
      return lineOf(text, key) ?? (file === 'cpu.max' ? text : `${key} ${unset(write)}`);
    }
    default:
      return text;
  }
}

/** What takes the entry of a device out of a file. */
function unset({ file, value }: Write): string {
  if (file === 'io.max') return 'rbps=max wbps=max riops=max wiops=max';
  if (file === 'rdma.max') return 'hca_handle=max hca_object=max';
  if (file === 'io.latency') return 'target=0';
  if (file === 'io.cost.qos') return 'enable=0';
  if (file === 'io.cost.model') return 'ctrl=auto';
  if (file.endsWith('weight')) return value.startsWith('default') ? '100' : 'default';
  if (file.startsWith('blkio.') || file.startsWith('net_prio.') || /^dmem\.(low|min)$/.test(file)) return '0';
  return 'max';
}

function lineOf(text: string, key: string): string | undefined {
  return text.split('\n').find((line) => line.split(' ')[0] === key);
}

function check(write: Write, directory: CgroupDirectory, text: string): void {
  if (sticks(write, text)) return;
  const path = `${directory.path}/${write.file}`;
  const partition = write.shape === 'partition';
  throw new CgroupError(E.INVAL, {
    syscall: 'write',
    path,
    call: `write(${JSON.stringify(path)}, ${JSON.stringify(write.value)})`,
    reason: partition ? 'invalidPartition' : 'notApplied',
    kernelMessage: text,
    file: write.file,
    value: write.value,
    hint: partition ? 'the kernel says why in the file' : 'the kernel took it and shows another value',
  });
}

/** Whether a file says what was written. */
function sticks({ shape, value, version, unit = 1, file }: Write, text: string): boolean {
  switch (shape) {
    case 'bytes': {
      const now = version === 1 ? legacyBytes(text) : text === 'max' ? 'max' : Number(text);
      if (value === 'max' || value === '-1' || now === 'max') return now === 'max' && /^(max|-1)$/.test(value);
      return now <= Number(value) && Number(value) - now < unit;
    }
    case 'list':
      return members(text).join() === [...new Set(members(value.trim()))].sort((a, b) => a - b).join();
    case 'partition':
      return text === value;
    case 'entry': {
      const [key = '', ...words] = value.split(' ');
      if (file === 'cpu.max') return text.split(' ')[0] === key;
      const line = lineOf(text, key)?.split(' ') ?? [];
      // An entry that says nothing but defaults is not shown.
      if (line.length === 0) return words.every((word) => /^(.*=)?(max|0|default)$/.test(word));
      return words.every((word) => line.some((shown) => shown === word || sameNumber(shown, word)));
    }
    default:
      return text === value;
  }
}

/** `min=50` is shown as `min=50.00`. */
function sameNumber(shown: string, word: string): boolean {
  const [[key, value], [wantedKey, wanted]] = [shown.split('='), word.split('=')];
  return key === wantedKey && value !== undefined && wanted !== undefined && Number(value) === Number(wanted);
}

/** Remembers v1's lists. */
function deviceLists(directory: CgroupDirectory): Change {
  const lines = (directory.read('devices.list') ?? '').split('\n').filter((line) => line !== '');
  return {
    keep: () => undefined,
    undo: () => {
      directory.write('devices.deny', 'a');
      for (const line of lines) directory.write('devices.allow', line.startsWith('a ') ? 'a' : line);
    },
  };
}
