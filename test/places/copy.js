// A copy of the repository where every user can read it: the clone itself may lie where others cannot look.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';

/**
 * Copies the repository's files and what is installed, and removes them afterwards.
 *
 * @param {string} folder that the copy becomes
 * @param {number} owner uid and gid of it
 * @param {() => Promise<boolean>} work what is done with it
 */
export async function withCopy(folder, owner, work) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { mode: 0o755 });
  try {
    const files = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], { encoding: 'utf8' }).split('\n');
    const list = files.filter((file) => file && existsSync(file)).join('\n');
    const archive = spawnSync('tar', ['cf', '-', '-T', '-'], { input: list, maxBuffer: 2 ** 30 }).stdout;
    execFileSync('tar', ['xf', '-'], { cwd: folder, input: archive });
    // A member of the workspace has modules of its own where it needs another version than others.
    const members = ['packages', 'examples'].flatMap((top) =>
      readdirSync(top).map((name) => `${top}/${name}/node_modules`),
    );
    const installed = ['node_modules', ...members.filter(existsSync)];
    execFileSync('cp', ['-a', '--parents', ...installed, folder]);
    // What was built is not among the repository's files.
    const built = readdirSync('packages').map((name) => `packages/${name}/dist`);
    execFileSync('cp', ['-a', '--parents', ...built, 'examples/container/dist', 'examples/oci-runtime/dist', folder]);
    execFileSync('chown', ['-R', `${owner}:${owner}`, folder]);
    return await work();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
