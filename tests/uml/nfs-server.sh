#!/bin/bash
# Starts an NFS server for versions 3 and 4 inside the user-mode kernel; never run on the machine itself.
#
#   tests/uml/nfs-server.sh DIR [SIZE]    DIR becomes an ext4 of its own (1G unless said), and the root of all exports
#
# nfsd exports neither overlay nor hostfs, so there has to be a real filesystem. nfsdcld ends the grace period at once, which takes 90 s
# without it; before second 1 of uptime nfsd finds no memory.
set -euo pipefail
[ -e /run/offshoot-uml ] || { echo "nfs-server.sh: only inside tests/uml/run.sh" >&2; exit 2; }
dir=${1:?give a directory}
mkdir -p "$dir" /run/rpcbind /run/rpc_pipefs /var/lib/nfs/nfsdcld /var/lib/nfs/v4recovery /var/lib/nfs/sm /var/lib/nfs/sm.bak
truncate -s "${2:-1G}" /tmp/nfs-server.img
mkfs.ext4 -q /tmp/nfs-server.img
mount -o loop /tmp/nfs-server.img "$dir"
rmdir "$dir/lost+found"
printf '[exports]\nrootdir=%s\n[nfsd]\nvers3=y\nvers4=y\n' "$dir" >/etc/nfs.conf
: >/etc/exports
: >/var/lib/nfs/etab
: >/var/lib/nfs/rmtab
while [ "$(cut -d. -f1 /proc/uptime)" -lt 2 ]; do sleep 0.1; done
mountpoint -q /proc/fs/nfsd || mount -t nfsd nfsd /proc/fs/nfsd
mountpoint -q /run/rpc_pipefs || mount -t rpc_pipefs rpc_pipefs /run/rpc_pipefs
rpcbind -w
nfsdcld
# The times for which an NFSv4 server that starts again waits for its clients; the usual 90 s would be most of a test.
rpc.nfsd --lease-time 10 --grace-time 10 4
rpc.mountd
exportfs -r
