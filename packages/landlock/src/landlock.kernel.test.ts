import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Fd, type Part, syscall } from '@iso/sys';
import { afterAll, describe, expect, it } from 'vitest';
import { inside } from '../../../test/confined.js';
import { type LandlockOptions, landlock, landlockAbi } from './index.js';

const folder = mkdtempSync(join(tmpdir(), 'iso-landlock-'));
afterAll(() => rmSync(folder, { recursive: true }));
const open = join(folder, 'open');
const shut = join(folder, 'shut');
for (const path of [open, shut]) {
  mkdirSync(path);
  writeFileSync(join(path, 'file'), 'text\n');
}
spawnSync('chmod', ['-R', 'a+rwX', folder]);

const abi = (() => {
  try {
    return landlockAbi();
  } catch {
    return 0;
  }
})();
const root = process.getuid?.() === 0;
const python = spawnSync('python3', ['--version']).status === 0;

const programs = ['/usr', '/bin', '/lib', '/lib64', '/etc'].map((path) => ({
  path,
  access: 'execute' as const,
  optional: true,
}));
const nothing = { path: '/dev/null', access: ['read-file', 'write-file'] } as const;
const box = (more: LandlockOptions) =>
  landlock({ mode: 'bestEffort', ...more, paths: [...programs, nothing, ...(more.paths ?? [])] });
const plain: Part = {
  confine(program) {
    program.step('credentials', 'setresgid', [1000, 1000, 1000]);
    program.step('credentials', 'setresuid', [1000, 1000, 1000]);
  },
};
const both = (...parts: Part[]): Part => ({
  confine: async (program) => {
    for (const part of parts) await part.confine(program);
  },
});
/** What is possible: one word a line. */
const attempts = (lines: Record<string, string>) =>
  Object.entries(lines)
    .map(([name, script]) => `(${script}) >/dev/null 2>&1 && echo ${name}`)
    .join('\n')
    .concat('\n:');
const possible = async (part: Part, lines: Record<string, string>) =>
  (await inside(part, attempts(lines))).trim().split('\n').filter(Boolean);

const files = {
  read: `cat ${open}/file`,
  list: `ls ${open}`,
  write: `echo x >> ${open}/file`,
  make: `mkdir ${open}/made && rmdir ${open}/made`,
  'read-shut': `cat ${shut}/file`,
  'list-shut': `ls ${shut}`,
  'write-shut': `echo x >> ${shut}/file`,
  'make-shut': `mkdir ${shut}/made && rmdir ${shut}/made`,
  proc: 'cat /proc/version',
};

describe.skipIf(abi < 1)('landlock() [needs Landlock]', () => {
  for (const [who, user] of [
    ['root [needs root]', { confine: () => {} }],
    ['a plain user [needs root to become one]', plain],
  ] as const) {
    it.skipIf(!root)(`keeps ${who} to the places that it is given`, async () => {
      expect(await possible(user, files)).toEqual(Object.keys(files));
      expect(await possible(both(user, box({})), files)).toEqual([]);
      const read = box({ paths: [{ path: open, access: 'read' }] });
      expect(await possible(both(user, read), files)).toEqual(['read', 'list']);
      const write = box({ paths: [{ path: open, access: 'write' }] });
      expect(await possible(both(user, write), files)).toEqual(['read', 'list', 'write', 'make']);
    });
  }

  it('keeps whoever runs this to it, without privilege', async () => {
    const part = box({ paths: [{ path: open, access: 'write' }] });
    expect(await possible(part, files)).toEqual(['read', 'list', 'write', 'make']);
    expect(await inside(part, `cat ${shut}/file 2>&1 || :`)).toMatch(/Permission denied/);
  });

  it('allows single files, by path and by descriptor, and passes over what is missing', async () => {
    const lines = { read: `cat ${open}/file`, other: `cat ${shut}/file`, list: `ls ${open}` };
    expect(await possible(box({ paths: [{ path: join(open, 'file'), access: 'all' }] }), lines)).toEqual(['read']);
    using fd = Fd.open(join(open, 'file'), { path: true });
    expect(await possible(box({ paths: [{ path: fd, access: 'read' }] }), lines)).toEqual(['read']);
    using directory = Fd.open(open, { path: true });
    expect(await possible(box({ paths: [{ path: directory, access: 'read' }] }), lines)).toEqual(['read', 'list']);
    // Rights of directories alone are none of a file.
    expect(await possible(box({ paths: [{ path: join(open, 'file'), access: ['read-dir'] }] }), lines)).toEqual([]);
    const missing = join(folder, 'missing');
    expect(await possible(box({ paths: [{ path: missing, access: 'all', optional: true }] }), lines)).toEqual([]);
    await expect(inside(box({ paths: [{ path: missing, access: 'all' }] }), 'true')).rejects.toMatchObject({
      code: 'ENOENT',
      path: missing,
      hint: expect.stringMatching(/optional/),
    });
  });

  it('denies the exec itself where its program is not allowed', async () => {
    await expect(inside(landlock({ mode: 'bestEffort', paths: [] }), 'true')).rejects.toMatchObject({
      code: 'EACCES',
      syscall: 'execve',
    });
  });

  it('sets no_new_privs, which a plain user needs', async () => {
    expect(
      await inside(box({ paths: [{ path: '/proc', access: 'read' }] }), 'grep NoNewPrivs /proc/self/status'),
    ).toMatch(/1$/m);
    const without = landlock({ mode: 'bestEffort', paths: programs, noNewPrivileges: false });
    if (root) expect(await inside(both(without), 'echo in')).toBe('in\n');
    await expect(inside(root ? both(plain, without) : without, 'true')).rejects.toMatchObject({
      code: 'EPERM',
      syscall: 'landlock_restrict_self',
      hint: expect.stringMatching(/no_new_privs/),
    });
  });

  it(`denies truncation and moves between places [Landlock ABI ${abi}]`, async () => {
    const lines = {
      truncate: `truncate -s 3 ${open}/file`,
      move: `echo > ${open}/here && mkdir -p ${open}/below && mv ${open}/here ${open}/below/ && rm -r ${open}/below`,
    };
    const rights = [
      'read-file',
      'read-dir',
      'write-file',
      'make-reg',
      'make-dir',
      'remove-file',
      'remove-dir',
    ] as const;
    const part = (more: readonly ('truncate' | 'refer')[]) =>
      box({ paths: [{ path: open, access: [...rights, ...more] }] });
    const before = abi >= 3 ? [] : ['truncate'];
    expect(await possible(part([]), { truncate: lines.truncate })).toEqual(before);
    expect(await possible(part(['truncate']), { truncate: lines.truncate })).toEqual(['truncate']);
    if (abi >= 2) expect(await possible(part(['truncate', 'refer']), lines)).toEqual(['truncate', 'move']);
  });

  it.skipIf(!python)(
    `keeps to ports, signals and sockets of its own kind as far as the kernel can [Landlock ABI ${abi}; needs python3]`,
    async () => {
      const script = (body: string) => `python3 -c '
import socket, os, signal, ctypes
tcp = lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)
udp = lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def attempt(name, f):
    try: f(); print(name)
    except PermissionError: pass
    except OSError: print(name)
${body}'`;
      const body = `
attempt("bind-any", lambda: tcp().bind(("127.0.0.1", 0)))
attempt("bind-34567", lambda: tcp().bind(("127.0.0.1", 34567)))
attempt("connect-1", lambda: tcp().connect(("127.0.0.1", 1)))
attempt("connect-2", lambda: tcp().connect(("127.0.0.1", 2)))
attempt("bind-udp", lambda: udp().bind(("127.0.0.1", 34567)))
attempt("connect-udp", lambda: udp().connect(("127.0.0.1", 9)))
attempt("signal", lambda: os.kill(${process.pid}, 0))
attempt("abstract", lambda: socket.socket(socket.AF_UNIX).connect("\\0iso-landlock-${process.pid}"))`;
      const all = ['bind-any', 'bind-34567', 'connect-1', 'connect-2', 'bind-udp', 'connect-udp', 'signal', 'abstract'];
      using server = abstractServer(`iso-landlock-${process.pid}`);
      try {
        const words = async (part: Part) => (await inside(part, script(body))).trim().split('\n');
        expect(await words({ confine: () => {} })).toEqual(all);
        const part = landlock({
          mode: 'bestEffort',
          net: { bindTcp: [34_567], connectTcp: [1], bindUdp: [], connectUdp: [9] },
          scope: ['signal', 'abstract-unix-socket'],
        });
        const { net, scope } = part.report();
        const denied = new Set([
          ...(net.includes('bind-tcp') ? ['bind-any', 'connect-2'] : []),
          ...(net.includes('bind-udp') ? ['bind-udp'] : []),
          ...(scope.includes('signal') ? ['signal', 'abstract'] : []),
        ]);
        // To a port it may send, but without binding nothing comes of it.
        const expected = all.filter(
          (name) => !denied.has(name) && !(name === 'connect-udp' && net.includes('bind-udp')),
        );
        expect((await words(part)).filter((name) => name !== 'connect-udp' || !net.includes('bind-udp'))).toEqual(
          expected,
        );
        if (abi >= 6) expect(expected).not.toContain('signal');
      } finally {
        server.close();
      }
    },
  );

  it('says no in strict mode to what the kernel lacks, before anything runs', async () => {
    const options = { paths: programs, net: { bindUdp: [] }, scope: ['signal'], log: ['new-exec-on'] } as const;
    const strict = inside(landlock({ ...options, abi: 9 }), 'echo in');
    if (abi >= 10) expect(await strict).toBe('in\n');
    else await expect(strict).rejects.toMatchObject({ code: 'EUNSUPPORTED' });
    expect(landlock({ ...options, mode: 'bestEffort' }).report().missing.length > 0).toBe(abi < 10);
    expect(await inside(landlock({ ...options, mode: 'bestEffort' }), 'echo in')).toBe('in\n');
    expect(await inside(landlock({ paths: programs, abi: Math.min(abi, 10) }), 'echo in')).toBe('in\n');
  });

  it.skipIf(!existsSync('/dev/null'))('stacks, and restricts what it starts', async () => {
    const first = box({
      paths: [
        { path: open, access: 'read' },
        { path: shut, access: 'read' },
      ],
    });
    const second = box({ paths: [{ path: open, access: 'write' }] });
    expect(await possible(both(first, second), files)).toEqual(['read', 'list']);
    expect(await inside(second, `sh -c 'sh -c "cat ${shut}/file" 2>&1 || :'`)).toMatch(/Permission denied/);
  });
});

/** A socket of this process that listens under a name without a file. */
function abstractServer(name: string): Fd {
  const [AF_UNIX, SOCK_STREAM, CLOEXEC] = [1, 1, 0o2000000];
  const address = Buffer.from(`\x01\0\0${name}`);
  const server = Fd.own(syscall('socket', AF_UNIX, SOCK_STREAM | CLOEXEC, 0));
  syscall('bind', server, address, address.length);
  syscall('listen', server, 9);
  return server;
}
