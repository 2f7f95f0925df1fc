/** What an entry of an archive, or a file, is. */
export type EntryType = 'file' | 'directory' | 'symlink' | 'link' | 'character' | 'block' | 'fifo';

/** One entry of an archive. Names are bytes: they need not be UTF-8. */
export interface TarEntry {
  /** Its name as the archive has it, for example `./etc/passwd`; a directory's may end in a slash. */
  path: Buffer;
  /** `link` is a hard link to an earlier entry. */
  type: EntryType;
  /** Permission bits with setuid, setgid and sticky: 0 to 0o7777. */
  mode: number;
  /** Owner. */
  uid: number;
  /** Group. */
  gid: number;
  /** Owner's name as the archive has it. */
  uname?: Buffer;
  /** Group's name as the archive has it. */
  gname?: Buffer;
  /** Length of the content in bytes, holes of a sparse file included. */
  size: number;
  /** Time of the last change of the content, in nanoseconds since 1970; may be negative. */
  mtime: bigint;
  /** What a symbolic link says, or the entry that a hard link names. */
  linkpath?: Buffer;
  /** Device number of a character or block device. */
  device?: { major: number; minor: number };
  /** Extended attributes. A name's bytes are the characters U+0000 to U+00FF (ASCII in practice), values are bytes. */
  xattrs?: Map<string, Buffer>;
  /** The parts of a sparse file that hold data. */
  sparse?: readonly SparsePart[];
}

/** A part of a sparse file that holds data; between the parts are zeros. */
export interface SparsePart {
  offset: number;
  length: number;
}
