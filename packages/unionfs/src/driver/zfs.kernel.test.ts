// The driver of ZFS against the conformance suite, on Debian's zfs-fuse with a pool in a file.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { conform, PATIENCE, passed } from '../testing/conformance.js';
import { zfs } from './zfs.js';

const root = process.getuid?.() === 0;
const has = (tool: string) => spawnSync('sh', ['-c', `PATH=$PATH:/sbin:/usr/sbin; command -v ${tool}`]).status === 0;
const skip = !root || !has('zfs-fuse') || !existsSync('/dev/fuse');
const needs = skip ? ` [needs ${root ? 'zfs-fuse and /dev/fuse' : 'root'}]` : '';
let folder = '';

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-zfs-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A daemon with files of its own: no other one, and nothing of the machine, is touched. */
const DAEMON = `
PATH=$PATH:/sbin:/usr/sbin
for place in /run/zfs /var/lib/zfs /etc/zfs; do
  mkdir -p /mnt/$place; [ -d $place ] && mount -t tmpfs zfs $place
done
[ -d /run/zfs ] || { mount -t tmpfs run /run && mkdir /run/zfs /run/lock; }
zfs-fuse --no-daemon --no-kstat-mount --enable-xattr >/dev/null 2>&1 & daemon=$!
trap 'zpool destroy -f isotest >/dev/null 2>&1; kill $daemon; wait $daemon' EXIT
for i in $(seq 100); do zpool list >/dev/null 2>&1 && break; sleep 0.1; done
truncate -s 256M "$1/pool"
zpool create -f -m "$1/layers" isotest "$1/pool" >/dev/null 2>&1 || exit 1
shift
"$@"
`;

describe('zfs', () => {
  it.skipIf(skip)(`passes on zfs-fuse, which sets times to whole seconds${needs}`, { timeout: PATIENCE }, () => {
    const before = ['unshare', '-m', '--propagation', 'private', 'sh', '-c', DAEMON, 'sh', folder];
    // Each of that case's thirteen layers is a dataset, which takes the daemon a second.
    const omit = process.env.ISO_LONG ? '' : 'layers on layers';
    expect(conform('zfs', join(folder, 'layers'), { before, omit, run: { wholeSeconds: true } })).toEqual(passed(omit));
  });

  it.skipIf(skip)(`says that no daemon and no module is there${needs}`, () => {
    expect(() => zfs(folder)).toThrow(/^zfs is not supported here: .*(daemon|module)/);
  });
});
