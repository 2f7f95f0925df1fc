# Process 1 of the VM's real root: mounts what a Linux system has, runs the command, reports how it ended.
busybox=/run/vm/busybox
for applet in mount mkdir ln ip cat mkfifo setsid uname cut reboot sysctl; do
  eval "$applet() { $busybox $applet \"\$@\"; }"
done
. /run/vm/settings

mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sys /sys
mkdir -p /dev/pts /dev/shm /dev/mqueue /run/lock
mount -t devpts -o nosuid,noexec,gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 shm /dev/shm
mount -t mqueue -o nosuid,nodev,noexec mqueue /dev/mqueue
# The kernel loads their modules when somebody opens them.
[ -e /dev/net/tun ] || { mkdir -p /dev/net && $busybox mknod -m 666 /dev/net/tun c 10 200; }
[ -e /dev/loop-control ] || $busybox mknod -m 660 /dev/loop-control c 10 237
ln -sfn /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
mount -t securityfs -o nosuid,nodev,noexec security /sys/kernel/security
mount -t bpf -o nosuid,nodev,noexec,mode=700 bpf /sys/fs/bpf
mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
  echo "+$controller" > /sys/fs/cgroup/cgroup.subtree_control
done
# systemd's defaults, which is what users' machines have.
mount --make-rshared /
ulimit -H -n 524288
ip link set lo up

# A port can be opened once only, so the command writes to pipes: it may well open /dev/stderr again.
port() {
  for candidate in /sys/class/virtio-ports/*; do
    if [ "$(cat "$candidate/name")" = "$1" ]; then echo "/dev/${candidate##*/}"; fi
  done
}
mkfifo /run/vm/stdout /run/vm/stderr
cat /run/vm/stdout > "$(port stdout)" & stdout=$!
cat /run/vm/stderr > "$(port stderr)" & stderr=$!
if [ "$INIT" = systemd ]; then . /run/vm/systemd.sh; fi
exec 3> "$(port status)"
echo "ready $(uname -r)" >&3

setsid sh /run/vm/command < /dev/null > /run/vm/stdout 2> /run/vm/stderr 3>&- &
wait $!
echo "exit $?" >&3
# A daemon that the command left behind may hold the pipes open for ever.
(exec 3>&-; $busybox sleep 2; kill $stdout $stderr 2> /dev/null) &
wait $stdout
wait $stderr
reboot -f
