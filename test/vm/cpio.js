// The archive format of an initramfs (kernel: Documentation/driver-api/early-userspace/buffer-format.rst).

/**
 * @param {{ path: string, mode: number, data?: Uint8Array | string }[]} entries parents before children; `mode`
 * includes the file type
 * @returns {Buffer}
 */
export function cpio(entries) {
  const parts = [];
  for (const [index, entry] of entries.entries()) parts.push(...member({ ...entry, inode: index + 1 }));
  parts.push(...member({ path: 'TRAILER!!!', mode: 0, inode: 0 }));
  return Buffer.concat(parts);
}

function member({ path, mode, inode, data = '' }) {
  const name = Buffer.from(`${path}\0`);
  const content = Buffer.from(data);
  const fields = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
  return [header, name, padding(header.length + name.length), content, padding(content.length)];
}

function padding(length) {
  return Buffer.alloc(-length & 3);
}
