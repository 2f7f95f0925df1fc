// What the tests need of the machine: the programs that judge, which are not ours.
import { spawnSync } from 'node:child_process';

/** Each program and the Debian package it comes from. */
const judges = {
  strace: 'strace',
  findmnt: 'util-linux',
  lsns: 'util-linux',
  nsenter: 'util-linux',
  setpriv: 'util-linux',
  ip: 'iproute2',
  nft: 'nftables',
  'iptables-legacy': 'iptables',
  conntrack: 'conntrack',
  pasta: 'passt',
  slirp4netns: 'slirp4netns',
  dig: 'bind9-dnsutils',
  newuidmap: 'uidmap',
  bsdtar: 'libarchive-tools',
  'mkfs.btrfs': 'btrfs-progs',
  'mkfs.xfs': 'xfsprogs',
  setfattr: 'attr',
  'fuse-overlayfs': 'fuse-overlayfs',
  busybox: 'busybox-static',
  skopeo: 'skopeo',
  umoci: 'umoci',
  podman: 'podman',
  'docker-registry': 'docker-registry',
  'zfs-fuse': 'zfs-fuse',
  dmsetup: 'dmsetup',
  'mkfs.ext4': 'e2fsprogs',
  capsh: 'libcap2-bin',
  zsh: 'zsh',
  fish: 'fish',
  crun: 'crun',
  scmp_sys_resolver: 'seccomp',
  gcc: 'gcc libc6-dev',
  python3: 'python3',
  systemctl: 'systemd',
  'dbus-daemon': 'dbus-daemon',
  'dbus-send': 'dbus-bin',
  'aarch64-linux-gnu-as': 'binutils-aarch64-linux-gnu linux-libc-dev-arm64-cross',
  // A daemon that may be started where it is installed.
  ...(process.env.ISO_LONG ? { containerd: 'containerd' } : {}),
};

/** Whether a program is there. */
export const has = (program) => spawnSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' }).status === 0;

/**
 * Installs what is missing where that is possible, else names it: what needs it is skipped then. Says so on standard error.
 *
 * @param {Record<string, string>} programs each with its Debian package
 */
export function prepareMachine(programs = judges) {
  const missing = Object.keys(programs)
    .filter((program) => !has(program))
    .map((program) => programs[program]);
  if (missing.length === 0) return;
  const names = [...new Set(missing)].join(' ');
  if (process.getuid() !== 0 || !has('apt-get')) {
    console.error(`not installed, what needs them is skipped: ${names}`);
    return;
  }
  console.error(`installing ${names}`);
  spawnSync('sh', ['-c', `apt-get update -qq && apt-get install -y -qq --no-install-recommends ${names} >/dev/null`], {
    stdio: ['ignore', 2, 2],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
}
