// What a tree holds, as Python sees it: the judge that did not come from here.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Fd } from '@iso/sys';
import type { ExtractWarning } from '../layer/extract.js';
import { unpackLayer } from '../layer/unpack.js';
import { type UnpackSettings, unpack } from '../layer/unpacker.js';

/** Debian's own where it is there: a version manager's shim takes longer than most tests. */
export const PYTHON = existsSync('/usr/bin/python3') ? '/usr/bin/python3' : 'python3';

const SCRIPT = `
import os, sys, stat, json, hashlib
root = os.fsencode(sys.argv[1])
ignore_root = len(sys.argv) > 2 and 'root' in sys.argv[2]
ignore_dirtimes = len(sys.argv) > 2 and 'dirtimes' in sys.argv[2]
links = {}
def describe(path, name):
    s = os.lstat(path)
    kind = stat.S_IFMT(s.st_mode)
    d = {'type': oct(kind), 'mode': oct(stat.S_IMODE(s.st_mode)), 'uid': s.st_uid, 'gid': s.st_gid, 'mtime': str(s.st_mtime_ns)}
    if ignore_dirtimes and stat.S_ISDIR(s.st_mode): del d['mtime']
    if stat.S_ISREG(s.st_mode):
        d['size'] = s.st_size
        h = hashlib.sha256()
        with open(path, 'rb') as f:
            for b in iter(lambda: f.read(1 << 20), b''): h.update(b)
        d['sha256'] = h.hexdigest()
    if stat.S_ISLNK(s.st_mode): d['link'] = os.readlink(path).hex()
    if stat.S_ISCHR(s.st_mode) or stat.S_ISBLK(s.st_mode): d['rdev'] = [os.major(s.st_rdev), os.minor(s.st_rdev)]
    if not stat.S_ISDIR(s.st_mode) and s.st_nlink > 1:
        d['same'] = links.setdefault((s.st_dev, s.st_ino), name.hex())
    try:
        names = os.listxattr(path, follow_symlinks=False)
        d['xattrs'] = {n: os.getxattr(path, n, follow_symlinks=False).hex() for n in sorted(names)}
    except OSError: d['xattrs'] = {}
    return d
out = {}
if not ignore_root: out['.'] = describe(root, b'.')
def walk(path, rel):
    for n in sorted(os.listdir(path)):
        p = os.path.join(path, n); r = rel + n
        out[json.dumps(r.decode('latin1'))] = describe(p, r)
        if stat.S_ISDIR(os.lstat(p).st_mode): walk(p, r + b'/')
walk(root, b'')
for d in out.values():
    if 'same' in d and sum(e.get('same') == d['same'] for e in out.values()) < 2: del d['same']
json.dump(out, sys.stdout)
`;

/** One file as Python sees it. */
export type Judged = Record<string, unknown>;

/**
 * All that a tree holds: types, modes, owners, times to the nanosecond, links, devices, attributes, hashes of contents.
 *
 * @param directory - its root
 * @param ignore - `root`: the root's own attributes do not count; `dirtimes`: times of directories do not
 * @param mount - arguments of mount(8): what is mounted there first, in a mount namespace that ends with the judge
 * @param first - a command that is run there before
 * @returns by name
 */
export function judge(
  directory: string,
  ignore: ('root' | 'dirtimes')[] = [],
  mount?: readonly string[],
  first: readonly string[] = ['true'],
): Record<string, Judged> {
  const look = [PYTHON, '-c', SCRIPT, directory, ignore.join(',')];
  const options = { encoding: 'utf8', maxBuffer: 1 << 30 } as const;
  const inside = 'n=$1; shift; mount "${@:1:$n}" && shift $n && n=$1 && shift && "${@:1:$n}" && shift $n && exec "$@"';
  const text = mount
    ? execFileSync(
        'unshare',
        ['-m', 'bash', '-c', inside, 'judge', String(mount.length), ...mount, String(first.length), ...first, ...look],
        options,
      )
    : execFileSync(PYTHON, look.slice(1), options);
  return JSON.parse(text) as Record<string, Judged>;
}

/**
 * Unpacks on this thread: starting a worker from TypeScript takes longer than most tests.
 *
 * @param source - bytes
 * @param directory - where it goes
 * @param settings - as for `unpackLayer`
 * @returns what was left out
 */
export async function unpackHere(
  source: AsyncIterable<Uint8Array>,
  directory: string,
  settings: UnpackSettings = {},
): Promise<ExtractWarning[]> {
  using root = Fd.open(directory, { directory: true });
  const warnings: ExtractWarning[] = [];
  const hooks = { progress: () => {}, check: () => {}, warning: (warning: ExtractWarning) => warnings.push(warning) };
  await unpack(source, root.number, settings, hooks);
  return warnings;
}

/** Loads the worker's code once: its loader leaves a child behind, which is no leak of ours. */
export async function warmUp(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'iso-warm-'));
  async function* nothing() {
    yield Buffer.alloc(1024);
  }
  await unpackLayer(nothing(), directory);
  rmSync(directory, { recursive: true });
}

const MAKE = String.raw`
import os, sys, random, stat
root = os.fsencode(sys.argv[1]); seed = int(sys.argv[2]); privileged = os.geteuid() == 0
r = random.Random(seed)
os.makedirs(root, exist_ok=True)
os.chdir(root)
def name():
    k = r.random()
    if k < .55: return bytes(r.choice(b'abcdefghijklmnopqrstuvwxyz0123456789._-') for _ in range(r.randint(1, 14)))
    if k < .7: return bytes(r.choice(b' :,\\\n\t%\'"$*?[]=') for _ in range(3)) + b'x'
    if k < .8: return bytes(r.randint(128, 255) for _ in range(r.randint(1, 8)))
    if k < .9: return 'größe-日本-🎉'.encode()[: r.choice([9, 16, 22])] + b'%d' % r.randint(0, 99)
    return b'n' * r.randint(90, 250)
def when(): return r.choice([0, 1, 1700000000123456789, 1234567890000000001, 1600000000000000000, r.randint(0, 2 * 10**18)])
dirs = [b'.']; files = []; made = []
n = int(sys.argv[3])
while len(made) < n:
    d = r.choice(dirs); nm = name()
    if nm in (b'.', b'..') or nm.startswith(b'.wh.'): continue
    p = os.path.join(d, nm)
    if len(p) > 3000 or os.path.lexists(p): continue
    k = r.random()
    if k < .2: os.mkdir(p); dirs.append(p)
    elif k < .65:
        data = r.choice([b'', b'x', r.randbytes(511), r.randbytes(512), r.randbytes(513), r.randbytes(r.randint(0, 70000)), b'A' * 100000])
        with open(p, 'wb') as f: f.write(data)
        files.append(p)
    elif k < .75: os.symlink(r.choice([b'/etc/passwd', b'nowhere', b'../..', b'l' * 200, b'.', '/größe'.encode()]), p)
    elif k < .85 and files: os.link(r.choice(files), p)
    elif k < .9: os.mkfifo(p)
    elif k < .95 and privileged: os.mknod(p, stat.S_IFCHR | 0o600, os.makedev(r.choice([1, 240]), r.choice([3, 255, 256, 70000])))
    elif privileged: os.mknod(p, stat.S_IFBLK | 0o600, os.makedev(7, r.randint(0, 300)))
    else: continue
    made.append(p)
for p in reversed(made):
    s = os.lstat(p)
    if privileged: os.lchown(p, r.choice([0, 0, 1000, 65534, 3000000, 4294967294]), r.choice([0, 0, 5, 2097152 * 3]))
    if not stat.S_ISLNK(s.st_mode):
        os.chmod(p, r.choice([0o644, 0o755, 0o600, 0o4755, 0o2711, 0o1777, 0o000 if privileged else 0o600, 0o7777]) | (0o700 if stat.S_ISDIR(s.st_mode) else 0))
    if stat.S_ISREG(s.st_mode) or stat.S_ISDIR(s.st_mode):
        if r.random() < .2: os.setxattr(p, 'user.comment', r.randbytes(r.choice([0, 1, 4, 300])))
        if r.random() < .1: os.setxattr(p, 'user.bin', b'\xff\x00\xfe\x80=\n')
        if privileged and r.random() < .1: os.setxattr(p, 'trusted.iso', b'\0\n1')
    if privileged and stat.S_ISREG(s.st_mode) and r.random() < .08:
        os.setxattr(p, 'security.capability', bytes.fromhex('0100000200200000000000000000000000000000'))
    if privileged and stat.S_ISLNK(s.st_mode) and r.random() < .2: os.setxattr(p, 'trusted.link', b'l', follow_symlinks=False)
for p in reversed(made): t = when(); os.utime(p, ns=(t, t), follow_symlinks=False)
os.utime(b'.', ns=(10**18 + 1, 10**18 + 1))
`;

/**
 * Makes a tree of everything that a file system holds, the same for the same seed.
 *
 * @param directory - is made
 * @param seed - number
 * @param count - of files, directories, links, devices …
 */
export function makeTree(directory: string, seed: number, count: number): void {
  execFileSync(PYTHON, ['-c', MAKE, directory, String(seed), String(count)]);
}

const CHANGE = `
import os, sys, random, shutil, stat
root = os.fsencode(sys.argv[1]); r = random.Random(int(sys.argv[2])); os.chdir(root)
def every(want):
    found = []
    for d, ds, fs in os.walk(b'.'):
        for n in ds + fs:
            p = os.path.join(d, n); s = os.lstat(p)
            if want is None or want(s.st_mode): found.append(p)
    return sorted(found)
def pick(want=None):
    found = every(want)
    return r.choice(found) if found else None
def drop(p):
    if stat.S_ISDIR(os.lstat(p).st_mode): shutil.rmtree(p)
    else: os.unlink(p)
for i in range(int(sys.argv[3])):
    f = pick(stat.S_ISREG); d = pick(stat.S_ISDIR); a = pick(); k = r.randint(0, 17)
    n = os.path.join(d or b'.', b'new-%d' % i)
    # Copying up breaks hard links, and a copy that is the same as below is no change: the link is whole again elsewhere.
    if k in (1, 2, 3, 4) and any(p and not stat.S_ISDIR(os.lstat(p).st_mode) and os.lstat(p).st_nlink > 1 for p in (f, a)): continue
    if k == 0 and f: open(f, 'ab').write(b'more')
    elif k == 1 and f: open(f, 'r+b').close()
    elif k == 2 and f: m = stat.S_IMODE(os.lstat(f).st_mode); os.chmod(f, 0o600); os.chmod(f, m)
    elif k == 3 and f: os.chmod(f, r.choice([0o644, 0o4755, 0o600]))
    elif k == 4 and a: os.lchown(a, r.choice([0, 7]), 8)
    elif k == 5 and f: os.setxattr(f, 'user.changed', b'\\0%d' % i)
    elif k == 6 and d: os.setxattr(d, 'user.changed', b'\\xff')
    elif k == 7 and a: drop(a)
    elif k == 8: open(n, 'wb').write(r.randbytes(r.randint(0, 9000)))
    elif k == 9: os.mkdir(n); open(n + b'/in', 'wb').write(b'in')
    elif k == 10 and d: drop(d); os.mkdir(d); open(d + b'/again', 'wb').write(b'again')
    elif k == 11 and d: drop(d); open(d, 'wb').write(b'file now')
    elif k == 12 and f: drop(f); os.mkdir(f)
    elif k == 13: os.symlink(b'to-%d' % i, n)
    elif k == 14: os.mknod(n, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    elif k == 15 and f: os.link(f, n)
    elif k == 16 and a: os.utime(a, ns=(5, 5 + i), follow_symlinks=False)
    elif k == 17 and f: os.rename(f, n)
`;

/**
 * A command that changes a tree at random, the same for the same seed.
 *
 * @param directory - its root
 * @param seed - number
 * @param count - of changes
 * @returns the command
 */
export function changeTree(directory: string, seed: number, count: number): string[] {
  return [PYTHON, '-c', CHANGE, directory, String(seed), String(count)];
}
