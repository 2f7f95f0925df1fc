import { spawn, spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { command } from './testing/command.js';

const python = spawnSync('python3', ['-c', 'import pty']).status === 0;

/** Runs a shell line in which `iso` stands for the command. */
function shell(line: string, input = ''): { status: number | null; stdout: string; stderr: string } {
  const quoted = [process.execPath, ...command].map((word) => `'${word}'`).join(' ');
  return spawnSync('bash', ['-c', `iso() { ${quoted} "$@"; }; ${line}`], {
    input,
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
    timeout: 100_000,
  });
}

/** Starts `iso run`, waits until the container says that it is ready, and sends signals to the command. */
async function signalled(options: string[], script: string, signals: NodeJS.Signals[]) {
  const iso = spawn(process.execPath, [...command, 'run', '--rm', ...options, '/', 'sh', '-c', script]);
  let output = '';
  const ready = new Promise<void>((resolve) => {
    iso.stdout.on('data', (chunk) => {
      output += chunk;
      if (output.includes('ready')) resolve();
    });
  });
  const exited = new Promise<number | null>((resolve) => iso.once('close', resolve));
  await Promise.race([ready, exited]);
  for (const signal of signals) {
    iso.kill(signal);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return { code: await exited, output };
}

describe('in the foreground', () => {
  it.each(['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH'] as const)(
    'passes %s on',
    async (signal) => {
      const script = `trap 'echo got; exit 9' ${signal.slice(3)}; echo ready; while :; do sleep 0.05; done`;
      expect(await signalled([], script, [signal])).toEqual({ code: 9, output: 'ready\ngot\n' });
    },
  );

  it('passes a second interrupt on too, and ends by force at the third', async () => {
    const twice = `n=0; trap 'n=$((n+1)); [ $n = 2 ] && exit 5' INT; echo ready; while :; do sleep 0.02; done`;
    expect((await signalled([], twice, ['SIGINT', 'SIGINT'])).code).toBe(5);
    const deaf = `trap '' INT TERM; echo ready; while :; do sleep 0.05; done`;
    expect((await signalled([], deaf, ['SIGINT', 'SIGTERM', 'SIGINT'])).code).toBe(137);
  });

  it('exits with 128 and the signal that ended the program', async () => {
    const plain = 'echo ready; exec sleep 1000';
    expect((await signalled(['--init'], plain, ['SIGTERM'])).code).toBe(143);
    expect((await signalled(['--init'], plain, ['SIGUSR1'])).code).toBe(138);
    expect(shell(`iso run --rm --init / sh -c 'kill -34 $$'`).status).toBe(162);
  });

  it('passes standard input on with -i only, to its end', () => {
    const much = 'x'.repeat(300_000);
    expect(shell('iso run --rm -i / cat', much)).toMatchObject({ status: 0, stdout: much });
    expect(shell('iso run --rm / cat', much)).toMatchObject({ status: 0, stdout: '' });
    expect(shell(`iso run --rm -i / sh -c 'exec 0<&-; exit 4'`, much).status).toBe(4);
  });

  it('loses nothing of a big output at exit', () => {
    const { stdout } = shell(`iso run --rm / sh -c 'head -c 3000000 /dev/zero | tr "\\0" x' | wc -c`);
    expect(Number(stdout)).toBe(3_000_000);
  });

  it('ends when nobody reads what it writes', () => {
    const piped = `iso run --rm OPTION / yes | head -1; echo "\${PIPESTATUS[0]}"`;
    for (const option of ['', '-t']) {
      const { stdout, stderr } = shell(piped.replace('OPTION', option));
      expect(stdout).toMatch(/^y\r?\n[1-9]\d*\n$/);
      expect(stderr).not.toMatch(/at .*\.[jt]s/);
    }
    expect(shell('iso run --rm / echo hi >&-; echo $?').stdout).toMatch(/^[01]\n$/);
    expect(shell('iso run --rm /no/such true 2>&-; echo $?').stdout).toBe('125\n');
    expect(shell('iso run --explain / true | head -1; echo "${PIPESTATUS[0]}"').stdout).toMatch(/clone3[^\n]*\n0\n$/);
  });

  it('gives a terminal with -t, and ends its input with -it where ours ends', () => {
    // It has a name, by which it can be opened; the host's terminals have none here.
    const look = `tty; echo by name >"$(tty)"; echo console >/dev/console; ls -1 /dev/pts; sleep 0.3`;
    expect(shell(`iso run --rm -t / sh -c '${look}'`)).toMatchObject({
      status: 0,
      stdout: '/dev/pts/0\r\nby name\r\nconsole\r\n0\r\nptmx\r\n',
    });
    expect(shell(`iso run --rm -it / sh -c 'read x; echo "got $x"; cat; sleep 0.3; exit 6'`, 'hello\n')).toMatchObject({
      status: 6,
      stdout: expect.stringContaining('got hello\r\n'),
    });
  });

  it.skipIf(!python)('works at a terminal: echo, interrupt, resize, and the terminal as it was [needs python3]', () => {
    const script = String.raw`
import fcntl, json, os, pty, select, struct, sys, termios, time
command = json.loads(sys.argv[1])
def size(fd, rows, columns): fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
pid, fd = pty.fork()
if pid == 0:
    time.sleep(0.2)
    os.execv(command[0], command)
size(fd, 40, 120)
echo = lambda: bool(termios.tcgetattr(fd)[3] & termios.ECHO)
seen = b''
everything = b''
def until(text):
    global seen, everything
    end = time.time() + 60
    while text not in seen:
        if time.time() > end: raise SystemExit(f'no {text} in {seen}')
        if not select.select([fd], [], [], 1)[0]: continue
        try: chunk = os.read(fd, 65536)
        except OSError: break
        seen += chunk
        everything += chunk
    seen = seen[seen.find(text) + len(text):] if text in seen else seen
def say(text): os.write(fd, text)
until(b'# ')
raw = echo()
say(b'stty size\n'); until(b'40 120')
size(fd, 50, 133)
time.sleep(0.5)
say(b'stty size\n'); until(b'50 133')
say(b'sleep 1000\n'); time.sleep(0.5); say(b'\x03'); until(b'# ')
say(b'echo $?\n'); until(b'130'); until(b'# ')
say(b'exit 5\n')
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(json.dumps({'code': code, 'rawWhile': not raw, 'echoAfter': echo(), 'line': b'50 133\r\n' in everything}))
`;
    const words = JSON.stringify([process.execPath, ...command, 'run', '--rm', '-it', '/', 'sh']);
    const { stdout, stderr } = spawnSync('python3', ['-c', script, words], { encoding: 'utf8', timeout: 100_000 });
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toEqual({ code: 5, rawWhile: true, echoAfter: true, line: true });
  });
});
