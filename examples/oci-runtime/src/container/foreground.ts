import { PtyStream } from '@iso/process';
import { F, type Fd, O, syscall } from '@iso/sys';

const TIOCSWINSZ = 0x5414;

/**
 * Connects the terminal that this process has with that of a process in a container: keys go there unchanged, Ctrl-C too; sizes follow.
 *
 * @param master - of the container's terminal; closed when the last there has closed the other end
 * @returns ends when all that was written there has been passed on, and this process's terminal is as it was
 */
export function attachHere(master: Fd): Promise<void> {
  const { stdin, stdout } = process;
  syscall('fcntl', master, F.SETFL, O.RDWR | O.NONBLOCK);
  const stream = new PtyStream(master);
  const raw = stdin.isTTY && !stdin.isRaw;
  const resize = () => {
    if (!stdout.isTTY || master.closed) return;
    const size = Buffer.alloc(8);
    size.writeUInt16LE(stdout.rows, 0);
    size.writeUInt16LE(stdout.columns, 2);
    syscall('ioctl', master, TIOCSWINSZ, size);
  };
  if (raw) stdin.setRawMode(true);
  resize();
  stdin.pipe(stream);
  stream.pipe(stdout, { end: false });
  stdout.on('resize', resize);
  return new Promise((resolve) => {
    stream.once('close', () => {
      stdin.unpipe(stream);
      stdin.pause();
      stdin.unref?.();
      stdout.off('resize', resize);
      if (raw) stdin.setRawMode(false);
      resolve();
    });
    stream.once('end', () => stream.destroy());
  });
}
