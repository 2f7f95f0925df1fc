#!/bin/busybox sh
# Stacks a throw-away tmpfs over the host's root and makes that the real root of the VM.
export PATH=/bin
/bin/busybox --install -s /bin
. /settings
set -e
mount -t devtmpfs dev /dev
mount -t proc proc /proc
for module in $MODULES; do insmod "/modules/$module"; done

p9=trans=virtio,version=9p2000.L,msize=512000,access=any
mount -t 9p -o ro,cache=loose,$p9 host /mnt/host
mount -t 9p -o ro,cache=loose,$p9 kernel /mnt/kernel
mount -t tmpfs -o size=60%,mode=755 scratch /mnt/scratch
mkdir -m 755 /mnt/scratch/upper /mnt/scratch/work
mount -t overlay -o lowerdir=/mnt/kernel:/mnt/host,upperdir=/mnt/scratch/upper,workdir=/mnt/scratch/work root /mnt/root
umount /mnt/scratch /mnt/kernel /mnt/host
# The repository may lie below /tmp or /run, which are about to be covered.
mount -o bind "/mnt/root$REPOSITORY" /mnt/repository

mount -t tmpfs -o nosuid,nodev,mode=755 run /mnt/root/run
mkdir -m 755 /mnt/root/run/vm
cp /bin/busybox /settings /command /guest.sh /systemd.sh /mnt/root/run/vm
mount -t tmpfs -o nosuid,nodev,mode=1777 tmp /mnt/root/tmp
if [ -d "/mnt/root$REPOSITORY" ]; then
  umount /mnt/repository
else
  mkdir -p "/mnt/root$REPOSITORY"
  mount -o move /mnt/repository "/mnt/root$REPOSITORY"
fi
umount /proc
umount /dev
mount -t devtmpfs -o nosuid,mode=755 dev /mnt/root/dev
if [ -n "$RESULTS" ]; then
  mkdir -p "/mnt/root$RESULTS"
  mount -t 9p -o rw,$p9 results "/mnt/root$RESULTS"
fi
exec switch_root /mnt/root /run/vm/busybox sh /run/vm/guest.sh
