#!/bin/bash
# Process 1 of a machine of the test cluster. It is started in mount, process, network, host name and IPC namespaces of its own.
#
#   machine-init.sh NAME ROOT VAR TOOLS [IMAGE TARGET]…     each IMAGE is a file system in a file, mounted at TARGET
#
# Why: a node must look like a machine to kubelet and containerd, and must vanish without a trace when this process is killed: the kernel
# then kills all processes of the machine and undoes its mounts. So nothing is mounted that the machine does not need (a copy of a
# mount made by somebody else would keep that file system busy), and all of the host but VAR is read-only.
set -eu
name=$1 root=$2 var=$3 tools=$4
shift 4

hostname "$name"
mount --make-rprivate /
mount --bind / "$root"
mount -o remount,bind,ro "$root"
# The files of the pools are on VAR's file system, which may be another one than the root's.
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 machine-run "$root/run"
mount -t tmpfs -o mode=1777 machine-tmp "$root/tmp"
mount --bind "$tools" "$root$tools"
mount --bind "$var" "$root/var"
mkdir -p "$var/lib" "$var/log" "$var/tmp"
ln -sfn /run "$var/run"
while [ $# -gt 1 ]; do
    mkdir -p "$root$2"
    # The loop device goes when the last mount of it goes.
    mount -o loop "$1" "$root$2"
    shift 2
done

# kubelet sets these for the whole kernel. What it writes ends in files of ours instead.
mkdir "$root/run/sysctl"
for key in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    copy=$root/run/sysctl/${key//\//.}
    cat "/proc/sys/$key" >"$copy"
    mount --bind "$copy" "$root/proc/sys/$key"
done

mkdir "$root/run/old"
cd "$root"
pivot_root . run/old
cd /
umount -l /run/old
rmdir /run/old
# A driver's mounts must come out of its container, and a pod's volumes must get into containers.
mount --make-rshared /
ip link set lo up
touch /run/machine-ready

# Whatever loses its parent becomes a child of this process, which reaps it.
while :; do
    sleep 3600 &
    wait $! || :
done
