#!/bin/bash
# Make Offshoot's image without a registry and without an image builder: this machine's Debian gives the base.
#
#   scripts/image.sh [ARCHIVE]      print the archive's path; ARCHIVE if none is given is image/offshoot.tar in the cargo target directory
#
# Environment: OFFSHOOT_IMAGE, the image's name (localhost/offshoot:dev); OFFSHOOT_BINARY, the program (else a release build is made);
# OFFSHOOT_ROOT, a directory: the image's files are put there and no archive is made, which is what the Dockerfile does.
#
# The image holds the driver, also under its name as a kubectl plugin, the programs that the driver starts (their list is read from its
# source) with the shared libraries they need, and two users. There is no shell. It fails above 40 MB.
# `docker build .` makes an image with the same content on an ordinary machine.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/oci-lib.sh
. scripts/oci-lib.sh

limit=40000000
target=${CARGO_TARGET_DIR:-$PWD/target}
archive=${1:-$target/image/offshoot.tar}
name=${OFFSHOOT_IMAGE:-localhost/offshoot:dev}
binary=${OFFSHOOT_BINARY:-}
if [ -z "$binary" ]; then
    cargo build --release --locked --bin offshoot >&2
    binary=$target/release/offshoot
fi

mkdir -p "$(dirname "$archive")"
root=${OFFSHOOT_ROOT:-}
[ -n "$root" ] || { root=$(mktemp -d); trap 'rm -rf "$root"' EXIT; }
oci_root "$root"
read -r -a programs < <(sed -n 's/^pub(super) const NAMES:.*= \[\(.*\)\];/\1/p' src/host/linux/programs.rs | tr -d '",')
[ ${#programs[@]} -gt 0 ] || { echo "image.sh: the list of programs is not in src/host/linux/programs.rs any more" >&2; exit 1; }
for program in "${programs[@]}"; do
    path=$(PATH=/usr/sbin:/sbin:/usr/bin:/bin command -v "$program") || { echo "image.sh: no $program here: run scripts/setup.sh" >&2; exit 1; }
    oci_copy "$root" "$path"
done
# mkfs.ext4 takes the features of a new file system from there.
cp /etc/mke2fs.conf "$root/etc/"
oci_copy "$root" "$binary"
mkdir -p "$root/usr/local/bin" "$root/var/lib/offshoot"
# oci_copy put it at the path it has here, for the sake of its libraries.
placed=$root$(oci_merged "$(realpath "$binary")")
mv "$placed" "$root/usr/local/bin/offshoot"
(cd "$root" && rmdir -p --ignore-fail-on-non-empty "$(dirname "${placed#"$root"/}")")
ln -s offshoot "$root/usr/local/bin/kubectl-offshoot"
[ -z "${OFFSHOOT_ROOT:-}" ] || exit 0

size=$(oci_archive "$archive" "$name" "$root" '{"Entrypoint":["/usr/local/bin/offshoot"],"Env":["PATH=/usr/local/bin:/usr/sbin:/usr/bin"]}' gzip)
echo "image.sh: $name: $((size / 1000)) kB compressed, of at most $((limit / 1000))" >&2
[ "$size" -le "$limit" ] || { echo "image.sh: the image is too large" >&2; exit 1; }
echo "$archive"
