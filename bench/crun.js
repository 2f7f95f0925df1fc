// The peer of containers: crun, with a bundle that holds its container by all that holds ours.
import { execFileSync, spawn as nodeSpawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { namesOf } from '@iso/capabilities';
import { run } from '@iso/container';
import { defaultMaskedPaths, defaultReadonlyPaths } from '@iso/mounts';

/** What ours is started with: everything else is its default. */
export const options = { root: '/', stdio: 'ignore', memory: 256 * 2 ** 20, pidsLimit: 64 };

/** Lines of /proc/self/status by which a container is held. */
const holding = ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb', 'NoNewPrivs', 'Seccomp', 'Seccomp_filters'];
// Which of the cgroup hierarchies are mounted is left out: crun mounts all that there are.
const look = `grep -E '^(${holding.join('|')}):' /proc/self/status
  cut -d' ' -f5 /proc/self/mountinfo | grep -v '^/sys/fs/cgroup/' | sort -u`;

/** Files of the bundle's own that a container of ours has, too. */
const files = ['/etc/hosts', '/etc/hostname'];

/** What a process of ours sees of itself. */
async function ours(seccomp = 'unconfined') {
  const box = await run({ ...options, seccomp, command: ['/bin/sh', '-c', look], stdio: 'pipe' });
  let text = '';
  for await (const chunk of box.child.stdout) text += chunk;
  await box.exited;
  return text;
}

/** A profile as the runtime specification has it: what it depends on is decided. */
function filterOf(profile, capabilities) {
  const { syscalls, archMap = [], defaultErrno, ...rest } = profile;
  const [major, minor] = release().split('.').map(Number);
  const meets = (version) => {
    const [wanted, least = 0] = version.split('.').map(Number);
    return major > wanted || (major === wanted && minor >= least);
  };
  const [name, architecture] = process.arch === 'x64' ? ['amd64', 'SCMP_ARCH_X86_64'] : ['arm64', 'SCMP_ARCH_AARCH64'];
  const applies = ({ includes = {}, excludes = {} }) =>
    (includes.caps ?? []).every((one) => capabilities.includes(one)) &&
    !(excludes.caps ?? []).some((one) => capabilities.includes(one)) &&
    (!includes.arches?.length || includes.arches.includes(name)) &&
    !excludes.arches?.includes(name) &&
    (!includes.minKernel || meets(includes.minKernel));
  return {
    ...rest,
    architectures: [
      architecture,
      ...archMap.filter((one) => one.architecture === architecture).flatMap((one) => one.subArchitectures),
    ],
    syscalls: syscalls.filter(applies).map(({ includes, excludes, comment, errno, ...rule }) => rule),
  };
}

/** crun's own example, held as ours. */
function bundle(config, { command, capabilities, profile }) {
  const { process: program, mounts, linux } = config;
  const file = (destination) => ({ destination, type: 'bind', source: basename(destination), options: ['bind'] });
  const sets = { bounding: capabilities, effective: capabilities, permitted: capabilities };
  return {
    ...config,
    process: { ...program, args: command, terminal: false, capabilities: sets, noNewPrivileges: true },
    root: { path: 'rootfs', readonly: false },
    mounts: [...mounts, ...files.map(file)],
    linux: {
      ...linux,
      namespaces: [...linux.namespaces, { type: 'cgroup' }],
      maskedPaths: defaultMaskedPaths,
      readonlyPaths: defaultReadonlyPaths,
      resources: { ...linux.resources, memory: { limit: options.memory }, pids: { limit: options.pidsLimit } },
      ...(profile ? { seccomp: filterOf(profile.toJSON(), capabilities) } : {}),
    },
  };
}

/**
 * crun in a mount namespace of its own, without the v2 tree of a hybrid layout, on an overlay of the host's root that is
 * mounted once (ours mounts one for each container). bash times it without starting anything else for a single run.
 *
 * @param profile - of both filters of system calls; without one there is none
 * @throws where a process in it is not held as one in ours
 */
export async function startCrun(profile) {
  const expected = await ours(profile);
  const held = BigInt(`0x${/^CapBnd:\s*(\w+)/m.exec(expected)[1]}`);
  const capabilities = namesOf(held).map((name) => `CAP_${name}`);
  const folder = mkdtempSync(join(tmpdir(), 'iso-bench-'));
  execFileSync('crun', ['spec'], { cwd: folder });
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  for (const path of files) writeFileSync(join(folder, basename(path)), '');
  const write = (command) =>
    writeFileSync(join(folder, 'config.json'), JSON.stringify(bundle(config, { command, capabilities, profile })));
  write(['/bin/sh', '-c', look]);
  const script = `
    mkdir -p t rootfs && mount -t tmpfs t t && mkdir t/upper t/work
    umount /sys/fs/cgroup/unified 2>/dev/null
    mount -t overlay o -o lowerdir=/,upperdir=t/upper,workdir=t/work rootfs
    run='crun --root ${folder}/state run --bundle ${folder}'
    $run iso-bench-look </dev/null | paste -sd' '
    n=0
    while read count lanes; do
      n=$((n+1)) begin=\${EPOCHREALTIME/[.,]/}
      if [ $count = 1 ]; then $run iso-bench-$n </dev/null >/dev/null
      else seq $count | xargs -P $lanes -I% $run iso-bench-$n-% >/dev/null; fi
      echo $(( \${EPOCHREALTIME/[.,]/} - begin ))
    done`;
  const shell = nodeSpawn('unshare', ['-m', 'bash', '-c', script], { cwd: folder, stdio: ['pipe', 'pipe', 'inherit'] });
  shell.stdout.setEncoding('utf8');
  const ended = new Promise((resolve) => shell.on('exit', resolve));
  const told = () => {
    const line = new Promise((resolve) => shell.stdout.once('data', (text) => resolve(text.trim())));
    return Promise.race([line, ended.then(() => Promise.reject(new Error('the shell around crun has ended')))]);
  };
  const close = async () => {
    shell.stdin.end();
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  const seen = await told();
  const words = (text) => text.split(/\s+/).join(' ').trim();
  if (words(seen) !== words(expected)) {
    await close();
    throw new Error(`crun's container is another one than ours:\n${words(seen)}\n${words(expected)}`);
  }
  write(['/bin/true']);
  return {
    name: execFileSync('crun', ['--version'], { encoding: 'utf8' }).split('\n')[0].replace(' version', ''),
    run: async (count, lanes) => {
      shell.stdin.write(`${count} ${lanes}\n`);
      return Number(await told()) / 1e3;
    },
    close,
  };
}
