import { randomBytes } from 'node:crypto';
import { attempt, Fd, O } from '@iso/sys';
import { check, ERRNO, tryOpen, tryRename, tryUnlink, writeAll } from '../file/call.js';
import { readDirectory } from '../file/directory.js';
import { tryLock } from '../file/lock.js';
import { stat } from '../file/stat.js';
import { fileName } from './name.js';
import { parseRecord, type SnapshotRecord } from './record.js';

const TEMPORARY = '.new-';
const MODE = 0o600;
const LARGEST = 4 << 20;
const RENAME_NOREPLACE = 1;

/** A file of the directory that is no record. */
interface BrokenRecord {
  file: string;
  problem: string;
}

/** A record that has no name yet. */
export interface Staged {
  name: Buffer;
  fd: Fd;
}

/** All records at one time. */
export interface RecordList {
  /** By name. */
  records: Map<string, SnapshotRecord>;
  broken: BrokenRecord[];
  /** Records under another name's file: a commit that was cut off before its last step. By file. */
  unfinished: Map<string, SnapshotRecord>;
}

/**
 * The directory of records. A record is replaced as a whole, by rename: whoever reads it without a lock sees the old one or the new one.
 */
export class Records implements Disposable {
  readonly #directory: Fd;

  /** @param directory - open for reading; becomes this object's */
  constructor(directory: Fd) {
    this.#directory = directory;
  }

  /**
   * The record of a name.
   *
   * @param name - of a snapshot
   * @returns the record, undefined where there is none, or what is wrong with it
   */
  read(name: string): SnapshotRecord | undefined | string {
    const record = this.#readFile(fileName(name));
    // The last step of a commit is missing: by this name there is nothing any more.
    if (typeof record === 'object' && record.name !== name) return undefined;
    return record;
  }

  /**
   * What a commit that was cut off before its last step left in the file of a name: a record of another name.
   *
   * @param name - the old one
   * @returns the record
   */
  unfinished(name: string): SnapshotRecord | undefined {
    const record = this.#readFile(fileName(name));
    return typeof record === 'object' && record.name !== name ? record : undefined;
  }

  /** All of them. */
  list(): RecordList {
    const list: RecordList = { records: new Map(), broken: [], unfinished: new Map() };
    for (const file of this.#files()) {
      if (file.startsWith(TEMPORARY)) continue;
      const record = this.#readFile(file);
      if (typeof record === 'string') list.broken.push({ file, problem: record });
      else if (record && fileName(record.name) !== file) list.unfinished.set(file, record);
      else if (record) list.records.set(record.name, record);
    }
    return list;
  }

  /**
   * Writes a record to a file that is none yet, which is locked until it is placed: what nobody locks, a process that died has left.
   *
   * @param record - what to write
   * @param durable - whether it must survive a power cut once it has its name
   * @returns the new file, for {@link Records.place}
   */
  stage(record: SnapshotRecord, durable: boolean): Staged {
    const staged = this.#create();
    const { name, fd } = staged;
    try {
      writeAll(fd.number, Buffer.from(`${JSON.stringify(record)}\n`), name);
      if (durable) check(attempt('fsync', fd), 'fsync', name);
      return staged;
    } catch (error) {
      this.discard(staged);
      throw error;
    }
  }

  #create(): Staged {
    for (;;) {
      const name = Buffer.from(`${TEMPORARY}${randomBytes(8).toString('hex')}`);
      const flags = O.WRONLY | O.CREAT | O.EXCL;
      const fd = Fd.own(check(tryOpen(this.#directory.number, name, flags, MODE), 'openat', name));
      // Before it was locked, somebody who tidies up may have taken it away.
      if (tryLock(fd) && stat(fd.number, null).links > 0) return { name, fd };
      fd.close();
    }
  }

  /** Makes a staged record the one of a name. */
  place({ name: from, fd }: Staged, name: string): void {
    const to = Buffer.from(fileName(name));
    check(tryRename(this.#directory.number, from, this.#directory.number, to), 'renameat2', from);
    fd.close();
  }

  /** Throws a staged record away; one that was placed is left alone. */
  discard({ name, fd }: Staged): void {
    if (fd.closed) return;
    tryUnlink(this.#directory.number, name);
    fd.close();
  }

  /** Both at once, for what need not be durable. */
  write(record: SnapshotRecord, durable = false): void {
    const staged = this.stage(record, durable);
    try {
      this.place(staged, record.name);
    } finally {
      this.discard(staged);
    }
  }

  /**
   * Gives the record in one name's file the file of another name. It is the only step after which the new name is there and the
   * old one is gone, so that a layer never has two.
   *
   * @param file - that it has
   * @param name - whose file it gets
   * @returns whether it could: not where the new name is taken
   */
  rename(file: string, name: string): boolean {
    const to = fileName(name);
    if (to === file) return true;
    const [from, dest] = [Buffer.from(file), Buffer.from(to)];
    const result = tryRename(this.#directory.number, from, this.#directory.number, dest, RENAME_NOREPLACE);
    if (result === -ERRNO.EEXIST) return false;
    check(result, 'renameat2', from);
    return true;
  }

  /** Removes a record's file. */
  removeFile(file: string): void {
    const result = tryUnlink(this.#directory.number, Buffer.from(file));
    if (result !== -ERRNO.ENOENT) check(result, 'unlinkat', Buffer.from(file));
  }

  /** Removes the record of a name. */
  remove(name: string): void {
    this.removeFile(fileName(name));
  }

  /** Makes what was renamed and removed durable. */
  sync(): void {
    check(attempt('fsync', this.#directory), 'fsync');
  }

  /** Removes what processes that died were about to write. */
  clean(): void {
    for (const file of this.#files()) {
      if (!file.startsWith(TEMPORARY)) continue;
      const name = Buffer.from(file);
      const opened = tryOpen(this.#directory.number, name, O.RDONLY | O.NONBLOCK);
      if (opened < 0) continue;
      using fd = Fd.own(opened);
      if (tryLock(fd)) tryUnlink(this.#directory.number, name);
    }
  }

  [Symbol.dispose](): void {
    this.#directory.close();
  }

  #files(): string[] {
    attempt('lseek', this.#directory, 0, 0);
    return readDirectory(this.#directory.number)
      .map(({ name }) => name.toString('latin1'))
      .sort();
  }

  #readFile(file: string): SnapshotRecord | undefined | string {
    const name = Buffer.from(file, 'latin1');
    const fd = tryOpen(this.#directory.number, name, O.RDONLY | O.NONBLOCK);
    if (fd === -ERRNO.ENOENT) return undefined;
    if (fd === -ERRNO.ELOOP) return 'the record is a symbolic link';
    using open = Fd.own(check(fd, 'openat', name));
    const text = readText(open);
    return text === undefined ? 'the record is no file, or too large' : parseRecord(text);
  }
}

const scratch = Buffer.allocUnsafeSlow(65536);

function readText(fd: Fd): string | undefined {
  const parts: Buffer[] = [];
  for (let total = 0; total <= LARGEST; ) {
    const length = attempt('read', fd, scratch, scratch.length);
    if (length === -ERRNO.EINTR) continue;
    if (length === -ERRNO.EISDIR) return undefined;
    if (check(length, 'read') === 0) return Buffer.concat(parts).toString();
    parts.push(Buffer.from(scratch.subarray(0, length)));
    total += length;
  }
  return undefined;
}
