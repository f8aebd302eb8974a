#!/bin/bash
# Run the demo, and make sure that it leaves nothing behind, however it ends.
#
#   scripts/demo.sh            run it (the release binary and example are built already)
#   scripts/demo.sh --clean    take away what a demo with DEMO_KEEP=1 left running
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dir=${DEMO_DIR:-/var/tmp/offshoot-demo}
target=${CARGO_TARGET_DIR:-target}

# What the demo's own clean-up could not do, such as after a SIGKILL: only what lies below the demo's directory.
sweep() {
    [ -e "$dir" ] || return 0
    local pid
    for pid in $(cat "$dir"/mnt/*/data/postmaster.pid 2>/dev/null | grep -E '^[0-9]+$' | sort -u); do
        [ "$(readlink "/proc/$pid/exe" 2>/dev/null | grep -c postgres)" = 1 ] && kill -QUIT "$pid" 2>/dev/null || true
    done
    for pid in $(pgrep -f -- "--endpoint $dir/csi.sock" || true); do
        kill -TERM "$pid" 2>/dev/null || true
    done
    sleep 1
    # The volumes first, while their images still have the names that losetup knows them by; the pool last.
    local below
    for below in "$dir/mnt/" "$dir/staging/" "$dir/"; do
        awk -v dir="$below" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r at; do
            umount "$at" 2>/dev/null || umount -l "$at" || true
        done
        losetup -l -n -O NAME,BACK-FILE | awk -v dir="$dir/" 'index($2, dir) == 1 { print $1 }' | while read -r loop; do
            losetup -d "$loop" 2>/dev/null || true
        done
    done
    rm -rf --one-file-system "$dir"
}

if [ "${1:-}" = --clean ]; then
    sweep
    exit 0
fi
trap 'status=$?; trap - EXIT; [ "${DEMO_KEEP:-}" = 1 ] && [ "$status" = 0 ] || sweep; exit "$status"' EXIT
trap ':' INT TERM
sweep
"$target/release/examples/demo"
