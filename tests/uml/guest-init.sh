#!/bin/bash
# Process 1 of the user-mode kernel that tests/uml/run.sh starts; never called by hand.
#
# Makes the guest's tree (the host's, read only, below a tmpfs), what a command expects of a running system (modules, /proc, /sys, /dev,
# loopback), runs the command that run.sh left in $OFFSHOOT_CONTROL, writes its exit status there and switches the kernel off.
# What goes wrong before the command is said on the console, and no status is written: run.sh tells the two apart by that.

set -euo pipefail
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
control=$OFFSHOOT_CONTROL
kernel=$(uname -r 2>/dev/null || true)

power_off() {
    sync || true
    echo o >/proc/sysrq-trigger
    sleep 60
}
trap power_off EXIT

mount -t proc proc /proc
insmod "/usr/lib/uml/modules/$kernel/kernel/fs/overlayfs/overlay.ko"

# The host's root is hostfs on "/"; from here on it is the lower layer only.
mount -t tmpfs -o mode=755 upper "$control/upper"
mkdir "$control/upper/data" "$control/upper/work"
mount -t overlay -o "lowerdir=/,upperdir=$control/upper/data,workdir=$control/upper/work" root "$control/root"
cd "$control/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t devtmpfs devtmpfs dev
mkdir -p dev/pts dev/shm
mount -t devpts -o mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
mkdir run/lock run/offshoot-uml run/old-root
mount -t hostfs -o "$control" control run/offshoot-uml
if [ -e run/offshoot-uml/shares ]; then
    while IFS= read -r -d '' share; do
        mkdir -p ".$share"
        mount -t hostfs -o "$share" shared ".$share"
    done <run/offshoot-uml/shares
fi
pivot_root . run/old-root
cd /
umount -l /run/old-root
control=/run/offshoot-uml

ln -sfn /proc/self/fd /dev/fd
ln -sfn /proc/self/fd/0 /dev/stdin
ln -sfn /proc/self/fd/1 /dev/stdout
ln -sfn /proc/self/fd/2 /dev/stderr
ln -sfn /proc/self/mounts /etc/mtab
mkdir -p /lib/modules
ln -sfn "/usr/lib/uml/modules/$kernel" "/lib/modules/$kernel"
hostname offshoot-uml
ip link set lo up
modprobe loop
if [ -e "$control/modules" ]; then
    xargs -0 -n 1 modprobe <"$control/modules"
fi

# Raw lines: no newline is rewritten, nothing is echoed. `cat` between the two keeps the command from taking them for a terminal.
stty -F /dev/ttyS0 raw -echo
stty -F /dev/ttyS1 raw -echo
mapfile -d '' -t environment <"$control/environment"
mapfile -d '' -t command <"$control/command"
cd "$(cat "$control/directory")"
exec 3> >(exec cat >/dev/ttyS0)
out_cat=$!
exec 4> >(exec cat >/dev/ttyS1 3>&-)
err_cat=$!
status=0
env -i "${environment[@]}" "${command[@]}" </dev/null >&3 2>&4 3>&- 4>&- || status=$?
exec 3>&- 4>&-
# What the command left running would hold the lines open for ever. Kernel threads do not mind.
for process in /proc/[0-9]*; do
    case ${process#/proc/} in
    1 | "$out_cat" | "$err_cat") ;;
    *) kill -KILL "${process#/proc/}" 2>/dev/null || true ;;
    esac
done
wait "$out_cat" "$err_cat" || true
# stty waits until all output has left the line before it changes a setting.
stty -F /dev/ttyS0 -raw
stty -F /dev/ttyS1 -raw
echo "$status" >"$control/status"
