import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import type { Part } from '@iso/sys';
import { describe, expect, it } from 'vitest';
import { nodeCommand } from './fixture.js';
import { Pty, run, type SpawnOptions, spawn } from './index.js';

const root = process.getuid?.() === 0;
const tiocsti =
  existsSync('/usr/bin/python3') &&
  existsSync('/proc/sys/dev/tty/legacy_tiocsti') &&
  readFileSync('/proc/sys/dev/tty/legacy_tiocsti', 'utf8') === '1\n';

/** A program on a terminal, and what it wrote so far. */
async function onTerminal(file: string, args: readonly string[], options: SpawnOptions = {}) {
  const child = await spawn(file, args, { stdio: 'pty', ...options });
  let text = '';
  child.stdout?.on('data', (chunk) => (text += chunk.toString('latin1')));
  const closed = once(child, 'close');
  return {
    child,
    closed,
    text: () => text,
    type: (keys: string) => void child.stdin?.write(keys, 'latin1'),
    async until(what: string | RegExp): Promise<void> {
      for (let i = 0; !(typeof what === 'string' ? text.includes(what) : what.test(text)); i++) {
        if (i > 2000 || child.exitCode !== null) throw new Error(`no ${what} in ${JSON.stringify(text)}`);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    },
  };
}

describe('Pty', () => {
  it('is a terminal for the child, of the size asked for, its controlling one', async () => {
    const child = await spawn('sh', ['-c', 'tty; stty size; echo to-tty >/dev/tty; read line; echo "got $line"'], {
      stdio: 'pty',
      terminal: { columns: 91, rows: 17 },
      env: process.env,
    });
    let text = '';
    child.stdout?.on('data', (chunk) => (text += chunk));
    child.stdin?.write('hello\n');
    await once(child, 'close');
    expect(child.exitCode).toBe(0);
    // The echo of the input stands wherever the terminal was when it came.
    expect(text).toMatch(/\/dev\/pts\/\d+\r\n/);
    expect(text).toContain('17 91\r\n');
    expect(text).toContain('to-tty\r\n');
    expect(text).toContain('got hello');
  });

  it('resizes with SIGWINCH', async () => {
    const child = await spawn(
      'bash',
      ['-c', 'trap "stty size; exit" WINCH; echo ready; while :; do sleep 0.05; done'],
      { stdio: 'pty' },
    );
    let text = '';
    child.stdout?.on('data', (chunk) => {
      text += chunk;
      if (text.includes('ready') && !text.includes('33 44')) child.resize({ columns: 44, rows: 33 });
    });
    await once(child, 'close');
    expect(text).toContain('33 44');
  });

  it('refuses sizes that no terminal has', () => {
    expect(() => Pty.open({ columns: -1, rows: 2 })).toThrow(/not a terminal size/);
  });

  it('hands over all that the child wrote, although it ended at once', async () => {
    const { closed, text } = await onTerminal('seq', ['20000']);
    await closed;
    expect(text().replaceAll('\r', '')).toBe(Array.from({ length: 20_000 }, (_, i) => `${i + 1}\n`).join(''));
    expect((await run('seq', ['3'], { stdio: 'pty' })).stdout).toBe('1\r\n2\r\n3\r\n');
  });

  it('passes every byte in raw mode, and cooks again', async () => {
    const { child, closed, text, type, until } = await onTerminal('sh', ['-c', 'echo ready; exec head -c 65536'], {});
    child.terminal?.setRawMode(true);
    await until('ready');
    const start = text().length;
    const bytes = Array.from({ length: 256 }, (_, i) => String.fromCharCode(i))
      .join('')
      .repeat(256);
    type(bytes);
    await closed;
    expect(
      text()
        .slice(start)
        .replace(/^\r?\n/, '') === bytes,
    ).toBe(true);
    using pty = Pty.open();
    const attributes = () =>
      spawnSync('stty', ['-a'], { stdio: [pty.peer.number, 'pipe', 'inherit'], encoding: 'utf8' }).stdout;
    const before = attributes();
    pty.setRawMode(true);
    expect(attributes()).toMatch(/-icrnl[\s\S]*-opost[\s\S]*-isig -icanon[\s\S]* -echo /);
    pty.setRawMode(false);
    expect(attributes()).toBe(before);
  });

  it('ends the input of a program when its stream ends, within a line too', async () => {
    const counted = async (input: string) =>
      (await run('sh', ['-c', 'n=$(wc -c); echo " counted $n"'], { stdio: 'pty', input })).stdout;
    expect(await counted('a\nb')).toMatch(/counted 3\r\n$/);
    expect(await counted('a\n')).toMatch(/counted 2\r\n$/);
    expect(await counted('')).toMatch(/counted 0\r\n$/);
  });

  it('Ctrl-C and Ctrl-Z reach the foreground job alone, as in any terminal', async () => {
    const { child, type, until } = await onTerminal('bash', ['--norc', '--noprofile', '-i'], {
      env: { PS1: '> ', PATH: process.env.PATH },
    });
    type('sleep 60\n');
    await until('sleep 60\r\n');
    await new Promise((resolve) => setTimeout(resolve, 200));
    type('\x03');
    type('echo "code" $?\n');
    await until('code 130');
    type('sleep 61\n');
    await until('sleep 61\r\n');
    await new Promise((resolve) => setTimeout(resolve, 200));
    type('\x1a');
    await until('Stopped');
    type('kill %1; exit 5\n');
    type('exit 5\n');
    expect((await child.exited).code).toBe(5);
  });

  it('hangs up: closing it sends SIGHUP', async () => {
    const { child, until } = await onTerminal('sh', ['-c', 'echo ready; exec sleep 60']);
    await until('ready');
    child.terminal?.close();
    expect((await child.exited).signal).toBe('SIGHUP');
  });

  it('is one of several descriptors, and the controlling one where asked for', async () => {
    const { stdout } = await run('sh', ['-c', 'readlink /proc/self/fd/2; tty </dev/tty'], {
      stdio: ['ignore', 'pipe', 'pty'],
    });
    expect(stdout).toMatch(/^\/dev\/pts\/\d+\n\/dev\/tty\n$/);
    using pty = Pty.open();
    const child = await spawn('sleep', ['60'], {
      stdio: ['ignore', 'ignore', 'ignore', pty.peer],
      controllingTerminal: 3,
    });
    // pid (comm) state ppid pgrp session tty_nr tpgid
    const [, , , session, terminal, group] =
      readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    expect([session, group].map(Number)).toEqual([child.pid, child.pid]);
    expect(Number(terminal)).toBeGreaterThan(0);
    child.kill();
    await child.exited;
    for (const [options, error] of [
      [
        { stdio: 'ignore', controllingTerminal: 0 },
        { code: 'ENOTTY', step: { phase: 'host' } },
      ],
      [{ stdio: 'ignore', controllingTerminal: 7 }, { code: 'ERR_INVALID_ARG_VALUE' }],
      [{ stdio: 'pty', session: false }, { code: 'ERR_INVALID_ARG_VALUE' }],
    ] as const)
      await expect(spawn('true', [], options)).rejects.toMatchObject(error);
  });

  it('connects the user’s terminal with the child’s: keys, Ctrl-C, sizes, and puts it back', async () => {
    // The outer terminal stands for the one that a user sits at.
    const script = `
      process.on('SIGINT', () => console.log('node was interrupted'));
      const child = await iso.spawn('bash', ['--norc', '--noprofile', '-c',
        'trap "stty size" WINCH; trap "echo interrupted" INT; stty size; while :; do read -t 0.05 line && echo "got $line" && [ "$line" = end ] && exit 4; done'],
        { stdio: 'pty', terminal: iso.terminalSize() });
      iso.attach(child);
      child.on('close', (code) => { console.log('code ' + code); process.exit(); });`;
    const [node = '', ...args] = nodeCommand(script);
    const outer = await onTerminal('bash', ['-c', 'stty -a >&3; "$@"; stty -a >&3', 'bash', node, ...args], {
      stdio: ['pty', 'pty', 'pty', 'pipe'],
      terminal: { columns: 77, rows: 11 },
    });
    let states = '';
    outer.child.stdio[3]?.on('data', (chunk) => (states += chunk));
    await outer.until('11 77');
    outer.child.resize({ columns: 66, rows: 22 });
    await outer.until('22 66');
    outer.type('\x03');
    await outer.until('interrupted');
    outer.type('end\r');
    await outer.until('code 4');
    await outer.closed;
    expect(outer.text()).not.toContain('node was interrupted');
    expect(outer.text()).toContain('got end');
    // All but the size is as it was.
    const [before, after] = [0, 1].map((i) => states.slice((states.length / 2) * i).slice(0, states.length / 2));
    const rest = (state = '') => state.replace(/rows \d+; columns \d+/, '');
    expect(rest(after)).toBe(rest(before));
    expect(before).toMatch(/ icanon[\s\S]* echo /);
  });

  it.skipIf(!tiocsti)(
    'of the caller: a confined child cannot type into it [needs legacy TIOCSTI, python3]',
    async () => {
      const script = (options: string) => `
      process.stdin.on('data', (chunk) => console.log('typed ' + chunk)); process.stdin.setRawMode(true);
      const nothing = { confine() {} };
      const child = await iso.spawn('python3', ['-c', 'import fcntl\\ntry: fcntl.ioctl(0, 0x5412, b"!")\\nexcept OSError as e: print("refused:", e)'],
        { stdio: 'inherit', ${root ? 'uid: 65534,' : ''} ...${options} });
      await child.exited; setTimeout(() => process.exit(), 300);`;
      const typed = async (options: string) => {
        const [node = '', ...args] = nodeCommand(script(options));
        const { closed, text } = await onTerminal(node, args);
        await closed;
        return text();
      };
      expect(await typed('{ confine: [nothing] }')).toMatch(/^refused: /);
      // The judge can be heard at all.
      expect(await typed('{ confine: [nothing], session: false }')).toContain('typed !');
    },
  );

  it('of the caller stays the child’s where nothing confines it, as with child_process', async () => {
    const sid = (options: SpawnOptions) =>
      run('sh', ['-c', 'cut -d" " -f6 /proc/self/stat'], options).then(({ stdout }) => Number(stdout));
    const own = Number(readFileSync('/proc/self/stat', 'utf8').split(') ')[1]?.split(' ')[3]);
    const nothing: Part = { confine() {} };
    using pty = Pty.open();
    expect(await sid({ stdio: [pty.peer, 'pipe', 'pipe'] })).toBe(own);
    expect(await sid({ stdio: [pty.peer, 'pipe', 'pipe'], confine: [nothing] })).not.toBe(own);
    expect(await sid({ stdio: ['ignore', 'pipe', 'pipe'], confine: [nothing] })).toBe(own);
  });
});
